//! The reader of tokens that was written from `README.md` alone, against all vectors about tokens.

use std::process::Command;

/// Needs `python3`, without any package. Where there is none, the test says so and passes, except in CI.
#[test]
fn a_decoder_written_from_the_page_alone_passes_the_token_vectors() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/check_decoder.py");
    let output = match Command::new("python3").arg("-B").arg(script).output() {
        Ok(output) => output,
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "python3 cannot be run: {error}");
            eprintln!("not checked, python3 cannot be run: {error}");
            return;
        }
    };
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}");
    assert!(told.contains("- 0 wrong"), "{told}");
}
