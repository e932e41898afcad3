//! `--client-tls`, until the hub's library has it.

use std::str::FromStr;

use anyhow::ensure;

#[derive(Clone, Copy, Debug)]
pub(crate) enum ClientTls {
    Off,
    On,
    Mutual,
}

impl FromStr for ClientTls {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            "on" => Ok(Self::On),
            "mutual" => Ok(Self::Mutual),
            _ => Err("it has to be off, on or mutual"),
        }
    }
}

pub(super) fn check(mode: Option<ClientTls>) -> anyhow::Result<()> {
    ensure!(
        matches!(mode, None | Some(ClientTls::Off)),
        "--client-tls: this hub has no TLS for clients"
    );
    Ok(())
}
