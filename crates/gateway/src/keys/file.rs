//! A file of keys, which its owner may replace at any time.

use std::path::{Path, PathBuf};

use evergate_access::{KEY_SET_BYTES_MAX, Origin};
use evergate_edge::{KeySource, KeySourceError};
use tokio::io::AsyncReadExt as _;

/// A JSON Web Key Set in a file.
#[derive(Debug)]
pub(super) struct KeyFile(PathBuf);

impl KeyFile {
    pub(super) fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

#[tonic::async_trait]
impl KeySource for KeyFile {
    fn name(&self) -> String {
        self.0.display().to_string()
    }

    fn origin(&self) -> Origin {
        Origin::Private
    }

    async fn read(&self) -> Result<Vec<u8>, KeySourceError> {
        let read = async {
            let mut bytes = Vec::new();
            // One more than any set may have, so that a larger one is told as such.
            let file = tokio::fs::File::open(&self.0).await?;
            file.take(KEY_SET_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).await?;
            Ok::<_, std::io::Error>(bytes)
        };
        read.await.map_err(|error| KeySourceError(error.to_string()))
    }
}
