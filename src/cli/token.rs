//! `token`: makes, lists and revokes the tokens of a deployment, in its tokens file.

use std::path::Path;

use serde_json::json;

use super::columns::columns;
use super::exit::{Exit, Failure, Outcome, chain};
use super::output::{self, Output};
use super::{DataDir, Global, span};
use crate::auth::{AuthError, NewToken, Scopes, TokenRecord, TokensFile};
use crate::clock::Clock;
use crate::domain::Namespace;

/// What to do with tokens.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    data_dir: DataDir,

    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a token: its secret goes to standard output, once; everything else to standard error
    #[command(after_help = "Examples:
  export CRAWLCACHE_TOKEN=$(crawlcache token create --name laptop)
  crawlcache token create --name dashboard --scopes read --expires 90d
  crawlcache token create --name team-b --namespace team-b")]
    Create(Create),

    /// List the tokens; their secrets are not stored
    List,

    /// Revoke a token: a running service refuses it within two seconds
    Revoke {
        /// The token's id, as `token list` shows it: the part between the two `_` of the token
        id: String,
    },
}

#[derive(Debug, clap::Args)]
struct Create {
    /// What to call it, for listings and messages
    #[arg(long)]
    name: String,

    /// What it allows, with commas between: read, write, admin (implies both), secrets (sensitive fields of sessions)
    #[arg(long, default_value = "read,write")]
    scopes: Scopes,

    /// The tenant whose entries it reaches
    #[arg(long, default_value = "default", value_parser = |text: &str| Namespace::new(text))]
    namespace: Namespace,

    /// How long it is valid, such as 90d or 12h; for ever when missing
    #[arg(long, value_name = "SPAN", value_parser = span::seconds)]
    expires: Option<u64>,
}

/// Changes or lists the tokens file that the configuration names.
pub(super) fn run(args: Args, global: &Global) -> Outcome {
    let path = global.load(args.data_dir.overrides())?.config.tokens_path();
    let output = global.output();
    match args.action {
        Action::Create(create) => create.run(&path, output),
        Action::List => list(&path, output),
        Action::Revoke { id } => revoke(&id, &path, output),
    }
}

impl Create {
    fn run(self, path: &Path, output: Output) -> Outcome {
        let Self { name, scopes, namespace, expires } = self;
        let now = Clock::system().now();
        let new =
            NewToken { name, scopes, namespace, expires_at: expires.map(|seconds| now.plus_secs(seconds)) };
        let (record, text) =
            TokensFile::edit(path, |file| file.create(new, now)).map_err(|error| refusal(&error))?;
        let printed = if output.is_json() {
            let mut object = json!(record);
            object["token"] = json!(text.expose());
            output.answer(&object, String::new)
        } else {
            output::line(text.expose())
        };
        if printed.is_err() {
            let detail = format!(
                "the token could not be shown: revoke it with `crawlcache token revoke {}`",
                record.id
            );
            return Err(Failure::new(Exit::Failed, "failed", detail));
        }
        if !output.is_json() {
            output::note(format!(
                "token {} `{}`: {}, namespace {}, {}\nKeep it now: it is not stored and cannot be shown again. Clients send \
                 it as `Authorization: Bearer <token>`.\nIts hash is in {}; a running service knows it within two seconds.",
                record.id,
                record.name,
                record.scopes,
                record.namespace,
                until(&record),
                path.display(),
            ));
        }
        Ok(Exit::Done)
    }
}

fn list(path: &Path, output: Output) -> Outcome {
    let file = TokensFile::load(path).map_err(|error| refusal(&error))?;
    let records = file.list();
    if records.is_empty() && !output.is_json() {
        output::note(format!("no tokens in {}", path.display()));
        return Ok(Exit::Done);
    }
    output.answer(&records, || table(records))?;
    Ok(Exit::Done)
}

fn revoke(id: &str, path: &Path, output: Output) -> Outcome {
    let record = TokensFile::edit(path, |file| file.revoke(id)).map_err(|error| refusal(&error))?;
    output.answer(&json!({ "revoked": record }), || format!("revoked {} `{}`", record.id, record.name))?;
    Ok(Exit::Done)
}

fn refusal(error: &AuthError) -> Failure {
    let (exit, code) = match error {
        AuthError::NoSuchToken(_) => (Exit::NotFound, "token_not_found"),
        AuthError::Name | AuthError::NoScope | AuthError::Expired(_) => (Exit::Usage, "usage"),
        _ => (Exit::Failed, "failed"),
    };
    Failure::new(exit, code, chain(error))
}

fn until(record: &TokenRecord) -> String {
    record.expires_at.map_or_else(|| "does not expire".to_owned(), |at| format!("expires {at}"))
}

fn table(records: &[TokenRecord]) -> String {
    let row = |record: &TokenRecord| {
        let expires = record.expires_at.map_or_else(|| "never".to_owned(), |at| at.to_string());
        [
            record.id.clone(),
            record.name.clone(),
            record.scopes.to_string(),
            record.namespace.to_string(),
            record.created_at.to_string(),
            expires,
        ]
    };
    columns(["ID", "NAME", "SCOPES", "NAMESPACE", "CREATED", "EXPIRES"], records.iter().map(row))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    #[test]
    fn columns_are_aligned() {
        let now = Timestamp::from_secs(1_768_473_000);
        let mut file = TokensFile::default();
        let short = NewToken::new("é", Scopes::ALL);
        let long = NewToken {
            expires_at: Some(now.plus_secs(60)),
            ..NewToken::new("a longer name", "read".parse().expect("a scope"))
        };
        for new in [short, long] {
            file.create(new, now).expect("created");
        }
        let text = table(file.list());
        let lines: Vec<Vec<char>> = text.lines().map(|line| line.chars().collect()).collect();
        let at = |line: usize, word: &str| {
            let text: String = lines[line].iter().collect();
            text.split(word).next().expect("a part").chars().count()
        };
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(
            (at(0, "SCOPES"), at(0, "EXPIRES")),
            (at(1, "read,write,admin"), at(1, "never")),
            "{text}"
        );
        assert_eq!((at(0, "SCOPES"), at(0, "EXPIRES")), (at(2, "read"), at(2, "2026-01-15T10:31")), "{text}");
        assert!(!text.contains(" \n"), "{text}");
    }
}
