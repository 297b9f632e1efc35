//! The layout of the tokens file: a list of `[[token]]` tables.

use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::file::{TokenRecord, is_name};
use super::secret::{TokenHash, is_id};
use super::{AuthError, Scopes};
use crate::config::describe_toml_error;
use crate::domain::{Namespace, Timestamp};

const HEADING: &str = "\
# The tokens of crawlcache. Only hashes are kept here: a lost token cannot be recovered, only replaced.
# Changes take effect within seconds; removing a table revokes its token.
";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "token")]
    tokens: Vec<Token>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    id: String,
    name: String,
    hash: String,
    scopes: Scopes,
    namespace: String,
    created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
}

/// The text of the file that holds `tokens`.
pub(super) fn print(tokens: &[TokenRecord]) -> String {
    let tokens = tokens
        .iter()
        .map(|token| Token {
            id: token.id.clone(),
            name: token.name.clone(),
            hash: token.hash.to_hex(),
            scopes: token.scopes,
            namespace: token.namespace.as_str().to_owned(),
            created_at: token.created_at,
            expires_at: token.expires_at,
        })
        .collect();
    let tables = toml::to_string(&File { tokens }).expect("tables of strings always print");
    format!("{HEADING}\n{tables}")
}

/// The tokens in `text`, all checked.
pub(super) fn parse(text: &str, path: &Path) -> Result<Vec<TokenRecord>, AuthError> {
    let malformed = |detail: String| AuthError::Malformed { path: path.to_owned(), detail };
    let file: File = toml::from_str(text).map_err(|error| malformed(describe_toml_error(text, &error)))?;
    let mut ids = HashSet::new();
    let mut records = Vec::with_capacity(file.tokens.len());
    for (at, token) in file.tokens.into_iter().enumerate() {
        let record = check(token).map_err(|detail| malformed(format!("token {}: {detail}", at + 1)))?;
        if !ids.insert(record.id.clone()) {
            return Err(malformed(format!("token {}: the id `{}` appears twice", at + 1, record.id)));
        }
        records.push(record);
    }
    Ok(records)
}

/// The messages do not repeat what was given: someone may have pasted a secret there.
fn check(token: Token) -> Result<TokenRecord, String> {
    if !is_id(&token.id) {
        return Err("`id` is not the id of a token".to_owned());
    }
    if !is_name(&token.name) {
        return Err(AuthError::Name.to_string());
    }
    let hash = TokenHash::from_hex(&token.hash).ok_or("`hash` must be 64 hexadecimal digits")?;
    let namespace = Namespace::new(&token.namespace).map_err(|error| error.to_string())?;
    Ok(TokenRecord {
        id: token.id,
        name: token.name,
        hash,
        scopes: token.scopes,
        namespace,
        created_at: token.created_at,
        expires_at: token.expires_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{NewToken, Scope, TokensFile};

    #[test]
    fn refuses_what_it_did_not_write() {
        let path = Path::new("tokens.toml");
        let mut file = TokensFile::default();
        let token = NewToken::new("crawler", Scope::Read.into());
        let id = file.create(token, Timestamp::from_secs(1)).expect("created").0.id;
        let text = print(file.list());
        assert_eq!(parse(&text, path).expect("its own text").len(), 1);
        assert_eq!(parse("", path).expect("no tokens").len(), 0);

        let table = text.split_once("[[token]]").expect("one table").1;
        let twice = format!("{text}\n[[token]]{table}");
        for (text, part) in [
            ("[[token]", "line 1: "),
            ("tokens = []", "unknown field `tokens`"),
            ("[[token]]\nid = \"x\"", "missing field"),
            (&text.replace("scopes = \"read\"", "scopes = \"root\""), "`root` is no scope"),
            (&text.replace("scopes = \"read\"", "scope = \"read\""), "unknown field `scope`"),
            (&text.replace("\"default\"", "\"Not Valid\""), "token 1: namespace must be"),
            (&text.replace("hash = \"", "hash = \"5ec4e7"), "token 1: `hash` must be 64"),
            (&text.replace(&id, "5ec4e7"), "token 1: `id` is not"),
            (&text.replace("\"crawler\"", "\"\""), "token 1: a token's name must be"),
            (&text.replace("1970-", "MCMLXX-"), "neither an RFC 3339 time"),
            (&twice, "token 2: the id"),
        ] {
            let error = parse(text, path).expect_err(part).to_string();
            assert!(error.starts_with("the tokens file tokens.toml is malformed: "), "{error}");
            assert!(error.contains(part), "{error} lacks {part}");
            assert!(!error.contains("5ec4e7"), "{error}");
        }
    }
}
