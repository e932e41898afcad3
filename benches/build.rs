//! Compiles the echo service without protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(["echo.proto"], ["proto"])?;
    // Payloads stay shared: what is measured is the way, not copies at its ends.
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
