//! The helper image on an instance: there already, or loaded from the manager's data directory.

use std::path::Path;

use bollard::Docker;
use bollard::query_parameters::ImportImageOptionsBuilder;
use futures_util::TryStreamExt as _;
use tokio_util::io::ReaderStream;
use tracing::info;

/// An architecture's name in file names: `x86_64`, `aarch64`.
pub(super) fn arch_name(docker: &str) -> &str {
    match docker {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    }
}

/// The image's ID; `helper-image-<arch>.id` beside the archive says which one is meant.
pub(super) async fn ensure(docker: &Docker, data: &Path, arch: &str) -> Result<String, String> {
    let arch = arch_name(arch);
    let archive = data.join(format!("helper-image-{arch}.tar.gz"));
    let id_file = data.join(format!("helper-image-{arch}.id"));
    let missing = |file: &Path, why: std::io::Error| {
        format!(
            "the helper image for {arch} is missing: {}: {why}; run `make`",
            file.display()
        )
    };
    let id = tokio::fs::read_to_string(&id_file)
        .await
        .map_err(|e| missing(&id_file, e))?;
    let id = id.trim().to_owned();
    if docker.inspect_image(&id).await.is_ok() {
        return Ok(id);
    }
    let file = tokio::fs::File::open(&archive)
        .await
        .map_err(|e| missing(&archive, e))?;
    let options = ImportImageOptionsBuilder::default().quiet(true).build();
    let loading = docker.import_image_stream(options, ReaderStream::new(file), None);
    let failed =
        |e: bollard::errors::Error| format!("docker could not load {}: {e}", archive.display());
    loading
        .try_for_each(|_| async { Ok(()) })
        .await
        .map_err(failed)?;
    docker.inspect_image(&id).await.map_err(|_| {
        format!(
            "{} holds another image than {} says; run `make`",
            archive.display(),
            id_file.display()
        )
    })?;
    info!(image = %id, "helper image loaded");
    Ok(id)
}
