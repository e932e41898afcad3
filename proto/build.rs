//! Compiles the `.proto` files without protoc.

use std::path::PathBuf;

use protox::prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(["adit/tunnel/v1/agent.proto", "adit/hub/v1/hub.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .build_transport(false)
        // Passed on without a copy.
        .bytes(".adit.tunnel.v1.Bytes")
        .compile_fds(files)?;
    // Apart from the tunnel's: a hub's admin port does not serve that, and its reflection must not list it.
    let hub = protox::compile(["adit/hub/v1/hub.proto"], ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("adit.hub.v1.bin"), hub.encode_to_vec())?;
    Ok(())
}
