//! A TCP proxy that can be told to delay, to cut, to reset, or to swallow what passes through it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// What a proxy does with what passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Passes everything on.
    Fair,
    /// Passes everything on after a while.
    Slow(Duration),
    /// Takes connections and closes them at once; closes those that are open.
    Cut,
    /// As [`Weather::Cut`], with a reset: what was on its way is lost.
    Reset,
    /// Takes everything and never answers.
    Silent,
}

/// The proxy. It ends with the test's process.
#[derive(Clone)]
pub(crate) struct Proxy(Arc<Inner>);

struct Inner {
    address: SocketAddr,
    upstream: String,
    weather: Mutex<Weather>,
    open: Mutex<Vec<(TcpStream, TcpStream)>>,
    taken: AtomicU64,
}

impl Proxy {
    /// One in front of `upstream`, such as `127.0.0.1:8000`.
    pub(crate) fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let proxy = Self(Arc::new(Inner {
            address: listener.local_addr().expect("bound"),
            upstream: upstream.trim_start_matches("http://").trim_end_matches('/').to_owned(),
            weather: Mutex::new(Weather::Fair),
            open: Mutex::default(),
            taken: AtomicU64::new(0),
        }));
        let accepting = proxy.clone();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                accepting.0.taken.fetch_add(1, Ordering::Relaxed);
                accepting.take(stream);
            }
        });
        proxy
    }

    /// Where it listens, as a URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0.address)
    }

    /// How many connections it has taken.
    pub(crate) fn connections(&self) -> u64 {
        self.0.taken.load(Ordering::Relaxed)
    }

    /// Changes the weather, for open connections too.
    pub(crate) fn set(&self, weather: Weather) {
        *lock(&self.0.weather) = weather;
        if matches!(weather, Weather::Cut | Weather::Reset) {
            for (client, server) in lock(&self.0.open).drain(..) {
                end(&client, weather);
                let _ = server.shutdown(Shutdown::Both);
            }
        }
    }

    /// What it does now.
    pub(crate) fn weather(&self) -> Weather {
        *lock(&self.0.weather)
    }

    #[expect(clippy::needless_pass_by_value, reason = "what is kept of it are copies")]
    fn take(&self, client: TcpStream) {
        let weather = self.weather();
        if matches!(weather, Weather::Cut | Weather::Reset) {
            end(&client, weather);
            return;
        }
        let Ok(server) = TcpStream::connect(&self.0.upstream) else { return };
        for stream in [&client, &server] {
            let _ = stream.set_nodelay(true);
        }
        let copies = || Some((client.try_clone().ok()?, server.try_clone().ok()?));
        let (Some(kept), Some(there), Some(back)) = (copies(), copies(), copies()) else { return };
        lock(&self.0.open).push(kept);
        let (to, from) = (self.clone(), self.clone());
        thread::spawn(move || to.pump(there.0, there.1));
        thread::spawn(move || from.pump(back.1, back.0));
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            match self.weather() {
                Weather::Slow(by) => thread::sleep(by),
                Weather::Silent => continue,
                Weather::Fair | Weather::Cut | Weather::Reset => {}
            }
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}

/// Ends a connection, with a reset if the weather says so.
fn end(client: &TcpStream, weather: Weather) {
    if weather == Weather::Reset {
        // What lingers for no time is reset.
        let _ = socket2::SockRef::from(client).set_linger(Some(Duration::ZERO));
    }
    let _ = client.shutdown(Shutdown::Both);
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
