//! What this host has to offer: a directory, space, tokens, an address, a database.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::HumanBytes;

use super::Check;
use crate::auth::TokensFile;
use crate::cli::exit::chain;
use crate::config::Config;
use crate::domain::Timestamp;
use crate::store::sqlite::{BackupError, backup_size, owner};

/// With less free space a service in SQLite soon refuses writes.
const SCARCE_BYTES: u64 = 1 << 30;

/// With less it does at once.
const FULL_BYTES: u64 = 64 << 20;

/// How long whoever has the address may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(2);

/// The nearest directory that is there: the data directory itself, or where it would be made.
fn existing(path: &Path) -> PathBuf {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let found = whole.ancestors().find(|path| path.exists());
    found.unwrap_or(Path::new("/")).to_owned()
}

/// Whether files can be made in it.
pub(super) fn data_directory(path: &Path) -> Check {
    let name = "data directory";
    let there = existing(path);
    let remedy = "give the user of the service write access, or name another with server.data_dir";
    if there.is_file() {
        return Check::failed(name, format!("{} is a file", there.display()), remedy);
    }
    let probe = there.join(format!(".crawlcache-doctor-{}", std::process::id()));
    let written =
        std::fs::write(&probe, b"written by crawlcache doctor").and_then(|()| std::fs::remove_file(&probe));
    match written {
        Ok(()) if there == std::path::absolute(path).unwrap_or_default() => {
            Check::ok(name, format!("{} is writable", there.display()))
        }
        Ok(()) => Check::ok(name, format!("{} will be made by `serve`", path.display())),
        Err(error) => Check::failed(name, format!("{} cannot be written: {error}", there.display()), remedy),
    }
}

/// How much space is free; `None` where the system does not say.
pub(super) fn disk(path: &Path, is_store: bool) -> Option<Check> {
    let name = "disk";
    let free = free_bytes(&existing(path))?;
    let detail = format!("{} free for the data directory", HumanBytes(free));
    let remedy = "free some space, move server.data_dir, or bound the database with sqlite.max_bytes";
    Some(match free {
        // Without the database only tokens are kept there.
        ..FULL_BYTES if is_store => Check::failed(name, detail, remedy),
        ..SCARCE_BYTES if is_store => Check::warning(name, detail, remedy),
        _ => Check::ok(name, detail),
    })
}

#[cfg(unix)]
fn free_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

#[cfg(not(unix))]
fn free_bytes(_path: &Path) -> Option<u64> {
    None
}

/// Whether the tokens can be read, and whether there must be some.
pub(super) fn tokens(config: &Config, now: Timestamp) -> Check {
    let name = "tokens";
    let path = config.tokens_path();
    let file = match TokensFile::load(&path) {
        Ok(file) => file,
        Err(error) => {
            let remedy =
                "put back a copy, or move the file away and make new tokens with `crawlcache token create`";
            return Check::failed(name, chain(&error), remedy);
        }
    };
    let all = file.list().len();
    let expired = file.list().iter().filter(|token| token.expires_at.is_some_and(|at| at <= now)).count();
    let create = "make one with `crawlcache token create`";
    if all == 0 && config.server.is_loopback() {
        return Check::ok(name, format!("none in {}: the service is open to this host", path.display()));
    }
    if all == 0 && config.server.insecure {
        return Check::warning(
            name,
            "none, and --insecure: everybody may read and delete everything",
            create,
        );
    }
    if all == 0 {
        let detail = format!(
            "none in {}, and {} can be reached from other hosts",
            path.display(),
            config.server.listen
        );
        return Check::failed(name, detail, create);
    }
    let detail = format!("{all} in {}, {expired} expired", path.display());
    if expired == all { Check::warning(name, detail, create) } else { Check::ok(name, detail) }
}

/// Whether the address is free, or taken by the service itself.
pub(super) async fn listen(address: SocketAddr) -> Check {
    let name = "listen address";
    let Err(error) = TcpListener::bind(address) else {
        return Check::ok(name, format!("{address} is free"));
    };
    match error.kind() {
        ErrorKind::AddrInUse => match version_at(address).await {
            Some(version) => Check::ok(name, format!("crawlcache {version} answers on {address}")),
            None => Check::failed(
                name,
                format!("another program has {address}"),
                "stop it, or name another address with server.listen",
            ),
        },
        ErrorKind::PermissionDenied => Check::failed(
            name,
            format!("{address} is not allowed: {error}"),
            "take a port from 1024 on with server.listen",
        ),
        ErrorKind::AddrNotAvailable => Check::failed(
            name,
            format!("{address} is no address of this host"),
            "name one that is with server.listen",
        ),
        _ => Check::failed(name, format!("{address} cannot be listened on: {error}"), "see server.listen"),
    }
}

/// The version of the service that answers there.
async fn version_at(mut address: SocketAddr) -> Option<String> {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    // The certificates of the system are of no use here.
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(PATIENCE).build().ok()?;
    let answer = client.get(format!("http://{address}/health")).send().await.ok()?.bytes().await.ok()?;
    let health: serde_json::Value = serde_json::from_slice(&answer).ok()?;
    health.get("backends")?;
    Some(health.get("version")?.as_str()?.to_owned())
}

/// Whether the database can be read.
pub(super) fn database(data_dir: &Path) -> Check {
    let name = "database";
    if let Some(process) = owner(data_dir) {
        return Check::ok(name, format!("in use by the running process {process}"));
    }
    match backup_size(data_dir) {
        Ok(bytes) => Check::ok(name, format!("opens, {} in use", HumanBytes(bytes))),
        Err(BackupError::Missing(_)) => Check::ok(name, "none yet; `serve` makes it"),
        Err(error) => Check::failed(
            name,
            chain(&error),
            "move it away, or put back a backup (`crawlcache backup` makes them)",
        ),
    }
}
