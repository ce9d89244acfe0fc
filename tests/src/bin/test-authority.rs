//! Makes the certificates of a run with TLS (`WORKYARD_TEST_TLS`): `test-authority DIR`.

use std::path::Path;

use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir] = &arguments[..] else { anyhow::bail!("DIR") };
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {dir}"))?;
    workyard_tests::write_certificates(Path::new(dir)).with_context(|| format!("no certificates in {dir}"))
}
