//! Two network namespaces of a test's own and a cable between them that can be cut, so that nothing
//! comes through any more and nobody is told. Both go away with the value.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream as StdStream};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::net::TcpStream;

use crate::namespace::Namespace;

const NEAR: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const FAR: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

/// The cable, and the processes that keep its two ends alive.
#[derive(Debug)]
pub struct Cable {
    near: Namespace,
    far: Namespace,
}

/// One end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The server's.
    Near,
    /// The clients'.
    Far,
}

impl Cable {
    /// Lays a cable.
    ///
    /// # Errors
    /// Why this system does not let us.
    pub fn lay() -> Result<Self, String> {
        let cable = Self { near: network()?, far: network()? };
        let peer = cable.far.id().to_string();
        cable.ip(
            End::Near,
            &["link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", &peer],
        )?;
        for (end, address) in [(End::Near, NEAR), (End::Far, FAR)] {
            cable.ip(end, &["link", "set", "lo", "up"])?;
            cable.ip(end, &["addr", "add", &format!("{address}/24"), "dev", "wire"])?;
            cable.ip(end, &["link", "set", "wire", "up"])?;
        }
        Ok(cable)
    }

    /// The address of the near end.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        NEAR.into()
    }

    /// The words before a command that send it to the near end.
    #[must_use]
    pub fn launcher(&self) -> [String; 4] {
        ["nsenter".into(), "--target".into(), self.near.id().to_string(), "--net".into()]
    }

    /// From now on nothing that the far end sends arrives, its farewells included, and it answers
    /// nothing. The near end is not told.
    pub fn cut(&self) {
        self.ip(End::Far, &["route", "add", "blackhole", &format!("{NEAR}/32")]).expect("a route can be set");
    }

    /// Connects from one of the ends.
    ///
    /// # Errors
    /// There is no connection.
    pub fn connect(&self, from: End, to: SocketAddr) -> io::Result<TcpStream> {
        let space = File::open(format!("/proc/{}/ns/net", self.keeper(from).id()))?;
        // A thread of its own: it stays where it went. A socket belongs to where it was made.
        let connecting = std::thread::spawn(move || {
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))?;
            let stream = StdStream::connect_timeout(&to, Duration::from_secs(10))?;
            stream.set_nonblocking(true)?;
            Ok::<_, io::Error>(stream)
        });
        TcpStream::from_std(connecting.join().expect("it does not panic")?)
    }

    fn keeper(&self, end: End) -> &Namespace {
        match end {
            End::Near => &self.near,
            End::Far => &self.far,
        }
    }

    /// Runs `ip` at one of the ends.
    fn ip(&self, end: End, words: &[&str]) -> Result<(), String> {
        let target = self.keeper(end).id().to_string();
        let ran = Command::new("nsenter").args(["--target", &target, "--net", "ip"]).args(words).output();
        let output = ran.map_err(|error| format!("nsenter cannot be started: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("ip {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
    }
}

fn network() -> Result<Namespace, String> {
    Namespace::enter(&["--net"], "true", "network")
}
