//! Where the keys are that vouch for tokens: files, and addresses of issuers.

mod fetched;
mod file;

use std::sync::Arc;

use anyhow::Context as _;
use evergate_access::{KeySet, Origin};
use evergate_edge::KeySource;

use crate::config::KeysAt;
use fetched::Fetched;
use file::KeyFile;

/// The sources that are configured. A file must be there and hold keys already: whoever wrote it can mend
/// it at once. An issuer may be away, and is asked again.
pub(crate) async fn sources(places: &[KeysAt]) -> anyhow::Result<Vec<Arc<dyn KeySource>>> {
    let mut sources: Vec<Arc<dyn KeySource>> = Vec::new();
    for place in places {
        match place {
            KeysAt::File(path) => {
                let file = KeyFile::new(path);
                let bytes = file.read().await.with_context(|| format!("cannot read {}", path.display()))?;
                KeySet::read(&bytes, Origin::Private).with_context(|| path.display().to_string())?;
                sources.push(Arc::new(file));
            }
            KeysAt::Url(url) => sources.push(Arc::new(Fetched::new(url.clone())?)),
        }
    }
    Ok(sources)
}
