//! Every operation on the bucket that the store of results needs, each once, on an object that nothing else names.

use aws_sdk_s3::primitives::ByteStream;

use super::{ProbeResult, probe_name};
use crate::config;
use crate::store::dynamodb::Aws;

/// Tries the operations on the bucket, if there is one. Without `writes` only those that read.
pub async fn probe_bucket(aws: &Aws, config: &config::S3, writes: bool) -> Vec<ProbeResult> {
    let Some(client) = aws.s3() else { return Vec::new() };
    let bucket = &config.bucket;
    let key = format!("{}{}", config.prefix, probe_name().replace(' ', "-"));
    let list = client.list_objects_v2().bucket(bucket).prefix(&key).max_keys(1).send();
    let mut results = vec![ProbeResult::new("s3:ListBucket", bucket, aws.call_s3(list).await)];
    if !writes {
        return results;
    }
    let body = ByteStream::from_static(b"written by crawlcache doctor, which removes it");
    let put = Box::pin(client.put_object().bucket(bucket).key(&key).body(body).send());
    let put = aws.call_s3(put).await;
    let is_put = put.is_ok();
    results.push(ProbeResult::new("s3:PutObject", bucket, put));
    if is_put {
        let get = aws.call_s3(client.get_object().bucket(bucket).key(&key).send()).await;
        results.push(ProbeResult::new("s3:GetObject", bucket, get));
        let delete = aws.call_s3(client.delete_object().bucket(bucket).key(&key).send()).await;
        results.push(ProbeResult::new("s3:DeleteObject", bucket, delete));
    }
    results
}
