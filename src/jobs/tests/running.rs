//! One piece of work at a time, known over restarts.

use super::*;
use crate::jobs::runner::NotStarted;

#[tokio::test(flavor = "multi_thread")]
async fn only_one_is_under_way() {
    let Some(setup) = Setup::new().await else { return };
    for number in 0..100 {
        setup.put_here(said(number, 1)).await;
    }
    let slow = MigrateOptions { units_per_second: Some(10), ..MigrateOptions::default() };
    let begun = setup.runner.start(Work::Migrate(slow)).await.expect("begun");
    let refused = setup.runner.start(Work::Verify(VerifyOptions::default())).await;
    assert!(matches!(&refused, Err(NotStarted::Busy { running }) if *running == begun.id), "{refused:?}");
    let text = setup.sides.metrics.render().expect("text");
    assert!(text.contains(r#"crawlcache_job_running{work="migrate"} 1"#), "{text}");
    setup.runner.cancel(&begun.id).await.expect("known");
    let status = setup.verify(VerifyOptions::default()).await;
    assert_eq!(
        setup.runner.list().iter().map(|status| status.id.clone()).collect::<Vec<_>>(),
        [status.id, begun.id]
    );
    let text = setup.sides.metrics.render().expect("text");
    assert!(text.contains(r#"crawlcache_job_running{work="migrate"} 0"#), "{text}");
    assert!(setup.runner.get("migrate-99").is_none() && setup.runner.cancel("nothing").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused() {
    let Some(setup) = Setup::new().await else { return };
    let options = MigrateOptions { batch_size: 0, ..MigrateOptions::default() };
    let refused = setup.runner.start(Work::Migrate(options)).await;
    assert!(matches!(refused, Err(NotStarted::Invalid(_))), "{refused:?}");
    assert!(setup.runner.list().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ran_when_the_process_died_is_interrupted() {
    let Some(setup) = Setup::new().await else { return };
    let status = setup.verify(VerifyOptions::default()).await;
    let mut jobs = setup.sides.database.jobs().await.expect("jobs");
    let mut job = jobs.pop().expect("one");
    job.state = job.state.replace("\"state\":\"done\"", "\"state\":\"running\"");
    setup.sides.database.save_job(job).await.expect("saved");
    let setup = setup.again().await;
    assert_eq!(setup.runner.get(&status.id).expect("known").state, WorkState::Interrupted);
    assert!(
        setup.runner.resume().await.expect("resumed").is_none(),
        "verifications begin anew, when asked for"
    );
}
