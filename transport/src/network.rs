//! Which way this machine's packets leave: noticed when it changes.
//!
//! The system is asked which address of this machine a packet would have, which sends nothing: a UDP socket that is
//! connected has one. Linux tells of changes to its addresses and routes, so that it is asked at once; other systems are
//! asked now and then.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use tokio::time::Instant;

/// How often to look where the system doesn't tell.
const LOOK: Duration = Duration::from_secs(1);

/// Changes come in bunches: an address goes, its routes go, and others come. Nobody looks more often than this.
const BUNCH: Duration = Duration::from_millis(5);

/// Addresses that nobody has (RFC 5737, RFC 3849), whose way is that of the whole Internet.
const ANYWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// Discard (RFC 863): nothing is sent there.
const ANY_PORT: u16 = 9;

/// The way from this machine to some addresses.
#[derive(Debug)]
pub struct Way {
    to: Vec<SocketAddr>,
    from: Vec<Option<IpAddr>>,
    looked_at: Instant,
    news: News,
}

impl Way {
    /// The way to these addresses, as it is now. To be called on a runtime.
    pub fn to(to: Vec<SocketAddr>) -> Self {
        // First, so that nothing changes unheard between the two.
        let news = News::new();
        Self {
            from: to.iter().copied().map(source).collect(),
            to,
            looked_at: Instant::now(),
            news,
        }
    }

    /// The way out of here, wherever it leads, and the one to these addresses.
    pub fn out_and_to(to: impl IntoIterator<Item = SocketAddr>) -> Self {
        let out = ANYWHERE.map(|ip| (ip, ANY_PORT).into());
        Self::to(out.into_iter().chain(to).collect())
    }

    /// Whether packets to this address can leave this machine now.
    pub fn exists_to(to: SocketAddr) -> bool {
        source(to).is_some()
    }

    /// Waits until packets leave from another address than before, or leave again after they could not. That they can't any
    /// more is waited out. May be given up.
    pub async fn changed(&mut self) {
        loop {
            self.news.next().await;
            tokio::time::sleep_until(self.looked_at + BUNCH).await;
            self.looked_at = Instant::now();
            let now: Vec<_> = self.to.iter().copied().map(source).collect();
            let before = std::mem::replace(&mut self.from, now);
            let mut pairs = self.from.iter().zip(&before);
            if pairs.any(|(now, before)| now.is_some() && now != before) {
                return;
            }
        }
    }
}

/// The address that packets to `to` have now: `None` where there is no way.
pub(crate) fn source(to: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Whether an address is still one of this machine's, as far as it can be told.
pub(crate) fn is_here(address: IpAddr) -> bool {
    let gone = |error: std::io::Error| error.kind() == std::io::ErrorKind::AddrNotAvailable;
    !UdpSocket::bind((address, 0)).is_err_and(gone)
}

/// That something about addresses or routes may have changed.
#[derive(Debug)]
struct News {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    told: Option<netlink::Socket>,
}

impl News {
    fn new() -> Self {
        Self {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            told: netlink::Socket::open()
                .inspect_err(
                    |error| tracing::debug!(%error, "the system does not tell of changes to its network"),
                )
                .ok(),
        }
    }

    /// May be given up.
    async fn next(&mut self) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(told) = &self.told {
            match told.next().await {
                Ok(()) => return,
                Err(error) => {
                    tracing::debug!(%error, "the system tells no more of changes to its network");
                    self.told = None;
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod netlink {
    use std::io;
    use std::os::unix::net::UnixDatagram as StdDatagrams;

    use rustix::net::netlink::SocketAddrNetlink;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
    use tokio::net::UnixDatagram;

    /// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR`, `RTMGRP_IPV4_ROUTE`, `RTMGRP_IPV6_IFADDR` and `RTMGRP_IPV6_ROUTE` of
    /// `linux/rtnetlink.h`: who is told of which changes.
    const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

    /// A bit of a message is enough: what has changed is looked for elsewhere.
    const SCRAP: usize = 64;

    /// A socket that the kernel tells of changes to interfaces, addresses and routes (rtnetlink(7)). The runtime knows no such
    /// sockets, but receives from any that has datagrams alike.
    #[derive(Debug)]
    pub(super) struct Socket(UnixDatagram);

    impl Socket {
        pub(super) fn open() -> io::Result<Self> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
            bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
            Ok(Self(UnixDatagram::from_std(StdDatagrams::from(socket))?))
        }

        /// Waits until something changes, and takes all of what there is to be told.
        pub(super) async fn next(&self) -> io::Result<()> {
            let mut told = false;
            while !told {
                self.0.readable().await?;
                while self.take()? {
                    told = true;
                }
            }
            Ok(())
        }

        fn take(&self) -> io::Result<bool> {
            match self.0.try_recv(&mut [0; SCRAP]) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
                // More has changed than the kernel has kept for us.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {
                    Ok(true)
                }
                Err(error) => Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

    use super::*;

    #[tokio::test]
    async fn the_way_to_this_machine_is_known_and_does_not_change() {
        let here: SocketAddr = (Ipv4Addr::LOCALHOST, ANY_PORT).into();
        assert_eq!(source(here), Some(Ipv4Addr::LOCALHOST.into()));
        assert!(is_here(Ipv4Addr::LOCALHOST.into()));
        assert!(!is_here(ANYWHERE[0]));
        let mut way = Way::to(vec![here]);
        assert!(
            tokio::time::timeout(BUNCH * 3, way.changed()).await.is_err(),
            "nothing has happened"
        );
        // As if it had been another before.
        way.from = vec![Some(ANYWHERE[0])];
        way.news = News {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            told: None,
        };
        tokio::time::timeout(LOOK * 10, way.changed()).await.unwrap();
        assert_eq!(way.from, [Some(IpAddr::from(Ipv4Addr::LOCALHOST))]);
    }

    #[tokio::test]
    async fn without_a_way_there_is_nothing_to_wait_for() {
        let nowhere: SocketAddr = (Ipv4Addr::BROADCAST, ANY_PORT).into();
        assert!(!Way::exists_to(nowhere), "no socket sends to everybody unasked");
        let mut way = Way::to(vec![nowhere]);
        way.news = News {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            told: None,
        };
        let changed = tokio::time::timeout(LOOK * 2, way.changed());
        assert!(changed.await.is_err(), "what can't be reached has no news");
    }
}
