//! The code generated from `predict.proto`, compared with the code that is checked in.

use std::{env, fs, path::PathBuf};

use prost::Message;

/// With this set the files are written, and not compared.
const REFRESH: &str = "REFRESH_PROTO";

fn proto() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/proto")
}

#[test]
fn the_checked_in_code_is_the_code_generated_from_the_proto() {
    let mut files = protox::compile([proto().join("predict.proto")], [proto()]).unwrap();
    let out = tempfile::tempdir().unwrap();
    tonic_prost_build::configure()
        .build_transport(false)
        // Ours tells no prompt.
        .skip_debug([
            ".tower_dspy.v1.PredictRequest",
            ".tower_dspy.v1.PredictResponse",
            ".tower_dspy.v1.PredictEvent",
        ])
        .out_dir(out.path())
        .emit_rerun_if_changed(false)
        .compile_fds(files.clone())
        .unwrap();
    // For reflection, which has no use for comments.
    for file in &mut files.file {
        file.source_code_info = None;
    }
    let code = fs::read(out.path().join("tower_dspy.v1.rs")).unwrap();
    for (name, made) in [("v1.rs", code), ("predict.binpb", files.encode_to_vec())] {
        let path = proto().join(name);
        if env::var_os(REFRESH).is_some() {
            fs::write(path, made).unwrap();
            continue;
        }
        let there = fs::read(&path).unwrap_or_default();
        assert!(
            there == made,
            "src/proto/{name} is not what src/proto/predict.proto says; refresh it by \
             `{REFRESH}=1 cargo test -p tower-dspy --test inbound generated`"
        );
    }
}
