//! Compiles the .proto files without `protoc`.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let files = protox::compile(
        [
            "evergate/control/v1/control.proto",
            "evergate/edge/v1/edge.proto",
            "evergate/publish/v1/publish.proto",
            "evergate/raft/v1/raft.proto",
        ],
        [&root],
    )?;
    let descriptors = PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin");
    std::fs::write(&descriptors, prost::Message::encode_to_vec(&files))?;
    tonic_prost_build::configure().build_transport(true).compile_fds(files)?;
    Ok(())
}
