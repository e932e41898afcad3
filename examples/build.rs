//! Compiles the samples' `.proto` files without protoc, and keeps their descriptors for reflection.

use std::env;
use std::fs;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=route_guide/proto");
    let out = env::var("OUT_DIR")?;
    let mut compiler = protox::Compiler::new(["route_guide/proto"])?;
    // Comments travel in the descriptors, so that a client that describes the service can show them.
    compiler.include_source_info(true).include_imports(true);
    compiler.open_file("route_guide.proto")?;
    fs::write(
        Path::new(&out).join("route_guide.bin"),
        compiler.encode_file_descriptor_set(),
    )?;
    tonic_prost_build::configure().compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
