//! The connection ids that a hub gives out: known for its own by a hub that was started again, and never met twice.
//!
//! quinn's `HashedConnectionIdGenerator` is the former and not the latter: three bytes of an id are random, so that of some
//! thousands two are the same. quinn looks for that before it gives a link an id, but not when it answers a first packet
//! with a Retry, and the packets that follow are then taken for those of the link that has the id: the agent hears nothing
//! until its handshake times out.

use std::time::Duration;

use aws_lc_rs::hmac;
use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};

/// Random bytes of an id.
const RANDOM: usize = 6;

/// Bytes that say that an id is this hub's: whatever else arrives is not answered.
const SIGNATURE: usize = 4;

/// Makes ids, and knows those that were made with the same key.
#[derive(Debug)]
pub(super) struct HubConnectionIds(hmac::Key);

impl HubConnectionIds {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    fn signature(&self, random: &[u8]) -> [u8; SIGNATURE] {
        let tag = hmac::sign(&self.0, random);
        let mut signature = [0; SIGNATURE];
        signature.copy_from_slice(&tag.as_ref()[..SIGNATURE]);
        signature
    }
}

impl ConnectionIdGenerator for HubConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let random: [u8; RANDOM] = rand::random();
        let mut id = [0; RANDOM + SIGNATURE];
        id[..RANDOM].copy_from_slice(&random);
        id[RANDOM..].copy_from_slice(&self.signature(&random));
        ConnectionId::new(&id)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let (random, signature) = id.split_at_checked(RANDOM).ok_or(InvalidCid)?;
        if signature == self.signature(random) {
            Ok(())
        } else {
            Err(InvalidCid)
        }
    }

    fn cid_len(&self) -> usize {
        RANDOM + SIGNATURE
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_hub_that_is_started_again_knows_its_ids_and_no_others() {
        let [mut before, again, other] = [1, 1, 2].map(|key| HubConnectionIds::new(&[key; 32]));
        for _ in 0..100 {
            let id = before.generate_cid();
            assert_eq!(id.len(), before.cid_len());
            assert!(again.validate(&id).is_ok());
            assert!(other.validate(&id).is_err());
        }
        for bytes in [&[][..], &[7; 8], &[7; 20]] {
            assert!(before.validate(&ConnectionId::new(bytes)).is_err());
        }
    }

    #[test]
    fn ids_do_not_meet() {
        let mut ids = HubConnectionIds::new(&[1; 32]);
        let mut seen: HashSet<ConnectionId> = HashSet::new();
        // Thousands of agents, and quinn gives several to each.
        for count in 0..50_000 {
            assert!(seen.insert(ids.generate_cid()), "the same again after {count}");
        }
    }
}
