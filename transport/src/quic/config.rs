//! [`Tuning`] as quinn's settings, and the keys that a restarted hub must have again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{hkdf, hmac};
use quinn::{AckFrequencyConfig, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use super::congestion;
use super::connection_ids::HubConnectionIds;
use crate::rh3::Role;
use crate::tuning::Tuning;

/// Unidirectional streams that a peer may have open: control, the two of QPACK, and room for unknown ones.
/// RFC 9114 §6.2 asks for three at the least.
const UNI_STREAMS: u32 = 8;

/// How soon a stateless reset may follow another. quinn's 20 ms would reset fifty old links a second, and
/// a restarted hub has thousands.
const MIN_RESET_INTERVAL: Duration = Duration::from_millis(1);

/// How long the peer may wait with an acknowledgement of one packet alone. RFC 9000 §13.2.1 allows 25 ms, and whoever misses one
/// waits for as much longer before it asks.
const MAX_ACK_DELAY: Duration = Duration::from_millis(5);

/// The settings of the end that has this role in HTTP: the hub is the client.
pub(super) fn transport(tuning: &Tuning, role: Role) -> TransportConfig {
    let mut config = TransportConfig::default();
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(tuning.max_udp_payload);
    config
        .stream_receive_window(VarInt::from_u32(tuning.stream_window))
        .receive_window(VarInt::from_u32(tuning.link_window))
        .send_window(u64::from(tuning.send_window))
        // Requests go one way only: an agent opens no bidirectional stream.
        .max_concurrent_bidi_streams(match role {
            Role::Client => VarInt::from_u32(0),
            Role::Server => VarInt::from_u32(tuning.max_calls),
        })
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS))
        .max_idle_timeout(IdleTimeout::try_from(tuning.idle_timeout).ok())
        .keep_alive_interval(match role {
            Role::Client => None,
            Role::Server => Some(tuning.keep_alive),
        })
        .initial_rtt(tuning.initial_rtt)
        .ack_frequency_config(Some(ack_frequency()))
        .mtu_discovery_config(Some(mtu))
        .enable_segmentation_offload(tuning.segmentation_offload)
        // No datagrams: HTTP/3 needs none here, so a peer may send none.
        .datagram_receive_buffer_size(None)
        .congestion_controller_factory(congestion::factory(tuning.congestion));
    config
}

/// What a peer is asked that knows of it (draft-ietf-quic-ack-frequency), as ours do.
pub(super) fn ack_frequency() -> AckFrequencyConfig {
    let mut config = AckFrequencyConfig::default();
    config.max_ack_delay(Some(MAX_ACK_DELAY));
    // What comes after a gap is acknowledged at once, as RFC 9000 §13.2.1 has it: the extension's default waits for one more.
    config.reordering_threshold(VarInt::from_u32(1));
    config
}

/// The same for one link with `peer`, where links have files of what QUIC does on them.
#[cfg_attr(not(feature = "qlog"), expect(unused_variables, reason = "no link has one"))]
pub(super) fn with_file(tuning: &Tuning, role: Role, peer: SocketAddr) -> Option<Arc<TransportConfig>> {
    #[cfg(feature = "qlog")]
    if let Some(folder) = &tuning.qlog {
        let end = match role {
            Role::Client => "hub",
            Role::Server => "agent",
        };
        let mut config = transport(tuning, role);
        config.qlog_stream(folder.link(end, peer));
        return Some(Arc::new(config));
    }
    None
}

/// The hub's endpoint, with the stateless reset key and the connection-id key derived from `secret`.
///
/// A hub that was killed and started again thereby knows the packets of its old links for its own and resets
/// them (RFC 9000 §10.3), so that agents come back at their next packet rather than at their idle timeout.
pub(super) fn hub_endpoint(secret: &[u8]) -> EndpointConfig {
    let reset_key = derive(secret, b"adit stateless reset");
    let cid_key = derive(secret, b"adit connection id");
    let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &reset_key)));
    config
        .cid_generator(move || Box::new(HubConnectionIds::new(&cid_key)))
        .min_reset_interval(MIN_RESET_INTERVAL);
    config
}

/// HKDF-SHA256 (RFC 5869) of `secret` for one purpose.
fn derive(secret: &[u8], purpose: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    let filled = hkdf::Salt::new(hkdf::HKDF_SHA256, b"adit hub")
        .extract(secret)
        .expand(&[purpose], hkdf::HKDF_SHA256)
        .and_then(|okm| okm.fill(&mut key));
    debug_assert!(filled.is_ok(), "32 bytes are one block of SHA-256");
    key
}

#[cfg(test)]
mod tests {
    use super::derive;

    #[test]
    fn keys_differ_by_purpose_and_secret_and_repeat() {
        let reset = derive(b"secret", b"adit stateless reset");
        assert_eq!(reset, derive(b"secret", b"adit stateless reset"));
        assert_ne!(reset, derive(b"secret", b"adit connection id"));
        assert_ne!(reset, derive(b"other", b"adit stateless reset"));
        assert_ne!(reset, [0; 32]);
    }
}
