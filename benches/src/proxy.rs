//! A TCP proxy that delays each direction: the round trip of a network, on one machine.
//!
//! Two threads a direction: one reads and stamps, one writes when its time has come. What is read is never held up by
//! what is written, so the delay does not limit the throughput. Threads, since timers of the runtime count in whole
//! milliseconds. It does not limit bandwidth and loses nothing.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Read at once.
const CHUNK: usize = 256 << 10;
/// Chunks on their way in one direction.
const FLIGHT: usize = 4096;

/// Listens on a free port of this machine; `round_trip` is added to every exchange. Runs until this process ends.
pub(crate) fn start(target: SocketAddr, round_trip: Duration) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            // Without a server behind it the client sees its connection closed, and tries again.
            let Ok(server) = TcpStream::connect(target) else {
                continue;
            };
            let (Ok(from_client), Ok(from_server)) = (client.try_clone(), server.try_clone()) else {
                continue;
            };
            direction(from_client, server, round_trip / 2);
            direction(from_server, client, round_trip / 2);
        }
    });
    Ok(address)
}

/// Carries bytes one way, `late` behind.
fn direction(mut from: TcpStream, mut to: TcpStream, late: Duration) {
    let (send, receive) = mpsc::sync_channel::<(Instant, Vec<u8>)>(FLIGHT);
    to.set_nodelay(true).ok();
    std::thread::spawn(move || {
        let mut buffer = vec![0; CHUNK];
        while let Ok(read) = from.read(&mut buffer) {
            if read == 0 || send.send((Instant::now() + late, buffer[..read].to_vec())).is_err() {
                break;
            }
        }
    });
    std::thread::spawn(move || {
        while let Ok((due, bytes)) = receive.recv() {
            while let Some(early) = due
                .checked_duration_since(Instant::now())
                .filter(|early| !early.is_zero())
            {
                std::thread::park_timeout(early);
            }
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        // One side has closed: the other one learns it.
        to.shutdown(Shutdown::Both).ok();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut writer = stream.try_clone().unwrap();
            std::io::copy(&mut stream, &mut writer).ok();
        });
        address
    }

    #[test]
    fn an_exchange_takes_the_added_round_trip_and_arrives_whole() {
        let late = Duration::from_millis(20);
        let mut stream = TcpStream::connect(start(echo(), late).unwrap()).unwrap();
        let begun = Instant::now();
        stream.write_all(b"hello").unwrap();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"hello");
        assert!(begun.elapsed() >= late, "{:?}", begun.elapsed());
    }

    #[test]
    fn many_exchanges_under_way_share_one_delay() {
        let mut stream = TcpStream::connect(start(echo(), Duration::from_millis(100)).unwrap()).unwrap();
        let begun = Instant::now();
        for _ in 0..50 {
            stream.write_all(&[7; 100]).unwrap();
        }
        stream.read_exact(&mut [0; 5000]).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }
}
