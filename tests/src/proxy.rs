//! A network that fails on purpose: a proxy on loopback between clients and a server.
//!
//! Invariant: without a fault it changes nothing. A connection that lost bytes never carries another one, also when
//! the fault is over: as with a peer that vanished, only a new connection helps.
//!
//! It knows nothing of Redis: a reply is whatever the server's side sends at once, so a fault hits whole answers, parts
//! of them and pushes alike.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Bytes that are passed on at once.
const CHUNK: usize = 16 * 1024;

/// What the network does to all connections at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It works.
    None,
    /// Everything comes later by this much, each way.
    Delay(Duration),
    /// Nothing moves; what was sent arrives when the fault is over.
    Stall,
    /// As `Stall`, on the first so many connections; those that come later work.
    StallFirst(u64),
    /// As `Stall`, but on that one which reaches the server from this port.
    StallBut(u16),
    /// What is sent vanishes, and connections stay open.
    BlackHole,
    /// One of so many replies never arrives and the connection is closed: the server has done what was asked.
    DropReply(u32),
    /// One of so many replies is cut in its middle and the connection closed.
    CutReply(u32),
}

/// The proxy; ends when dropped.
#[derive(Debug)]
pub struct FaultProxy {
    port: u16,
    shared: Arc<Shared>,
    _running: DropGuard,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    fault: watch::Sender<Fault>,
    /// Connections so far.
    carried: AtomicU64,
    /// Replies that a fault took or cut.
    hit: watch::Sender<u64>,
    /// Cancelled to close the connections of today; replaced by one for those to come.
    open: watch::Sender<CancellationToken>,
    running: CancellationToken,
}

/// One connection of a client, with its other half to the server.
struct Wire {
    shared: Arc<Shared>,
    closed: CancellationToken,
    /// Which it is of all, from 1 on.
    number: u64,
    /// From where it reaches the server.
    port: u16,
    /// Bytes of it were lost.
    dead: AtomicBool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    ToServer,
    ToClient,
}

impl FaultProxy {
    /// Starts a proxy in front of a server of this machine.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn before(server_port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let running = CancellationToken::new();
        let shared = Arc::new(Shared {
            upstream: (Ipv4Addr::LOCALHOST, server_port).into(),
            fault: watch::Sender::new(Fault::None),
            carried: AtomicU64::new(0),
            hit: watch::Sender::new(0),
            open: watch::Sender::new(running.child_token()),
            running: running.clone(),
        });
        tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            port,
            shared,
            _running: running.drop_guard(),
        })
    }

    /// Its port on 127.0.0.1, for addresses that the server behind it knows how to make.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Begins a fault, or ends the one before it.
    pub fn set(&self, fault: Fault) {
        self.shared.fault.send_replace(fault);
    }

    /// Closes every connection.
    pub fn cut_all(&self) {
        let next = self.shared.running.child_token();
        self.shared.open.send_replace(next).cancel();
    }

    /// How many connections there were so far, those that have ended included.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.carried.load(Ordering::Relaxed)
    }

    /// How many replies were taken or cut so far.
    #[must_use]
    pub fn hits(&self) -> u64 {
        *self.shared.hit.borrow()
    }

    /// Returns when so many replies were taken or cut.
    pub async fn has_hit(&self, replies: u64) {
        let mut hit = self.shared.hit.subscribe();
        // The sender is the proxy's own.
        hit.wait_for(|hit| *hit >= replies).await.ok();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Some(Ok((client, _))) = shared.running.run_until_cancelled(listener.accept()).await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let closed = shared.open.borrow().child_token();
            // A server that is away: the client sees a connection that closes at once.
            if let Ok(server) = TcpStream::connect(shared.upstream).await {
                carry(client, server, shared, closed).await;
            }
        });
    }
}

async fn carry(client: TcpStream, server: TcpStream, shared: Arc<Shared>, closed: CancellationToken) {
    for side in [&client, &server] {
        // Without it small frames wait for each other: that is another network than the one under test.
        side.set_nodelay(true).ok();
    }
    let number = shared.carried.fetch_add(1, Ordering::Relaxed) + 1;
    let wire = Wire {
        shared,
        closed,
        number,
        port: server.local_addr().map_or(0, |address| address.port()),
        dead: AtomicBool::new(false),
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // One way that ends closes both: halves of a connection do not outlive each other.
    tokio::join!(
        wire.pump(Way::ToServer, from_client, to_server),
        wire.pump(Way::ToClient, from_server, to_client),
    );
}

impl Wire {
    async fn pump(&self, way: Way, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut chunk = vec![0; CHUNK];
        while let Some(Ok(n @ 1..)) = self.open(from.read(&mut chunk)).await {
            let passed = self.open(self.pass(way, &chunk[..n], &mut to)).await;
            if !matches!(passed, Some(Ok(true))) {
                break;
            }
        }
        self.closed.cancel();
    }

    async fn open<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        self.closed.run_until_cancelled(work).await
    }

    /// Hands on what was read, as far as the fault allows; false ends the connection.
    async fn pass(&self, way: Way, bytes: &[u8], to: &mut OwnedWriteHalf) -> io::Result<bool> {
        if self.dead.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let fault = *self.shared.fault.borrow();
        match fault {
            Fault::None => {}
            Fault::Delay(delay) => tokio::time::sleep(delay).await,
            Fault::Stall | Fault::StallFirst(_) | Fault::StallBut(_) => self.over().await,
            Fault::BlackHole => {
                self.dead.store(true, Ordering::Relaxed);
                return Ok(true);
            }
            Fault::DropReply(one_in) if self.hits(way, one_in) => return Ok(false),
            Fault::CutReply(one_in) if bytes.len() > 1 && self.hits(way, one_in) => {
                to.write_all(&bytes[..bytes.len() / 2]).await?;
                return Ok(false);
            }
            Fault::DropReply(_) | Fault::CutReply(_) => {}
        }
        to.write_all(bytes).await.map(|()| true)
    }

    fn hits(&self, way: Way, one_in: u32) -> bool {
        let hit = way == Way::ToClient && fastrand::u32(..one_in.max(1)) == 0;
        if hit {
            self.shared.hit.send_modify(|hits| *hits += 1);
        }
        hit
    }

    fn is_stalled(&self, fault: Fault) -> bool {
        match fault {
            Fault::Stall => true,
            Fault::StallFirst(n) => self.number <= n,
            Fault::StallBut(port) => self.port != port,
            _ => false,
        }
    }

    /// Returns when it is not stalled, or not any more.
    async fn over(&self) {
        let mut fault = self.shared.fault.subscribe();
        // The sender lives as long as the wire.
        fault.wait_for(|fault| !self.is_stalled(*fault)).await.ok();
    }
}
