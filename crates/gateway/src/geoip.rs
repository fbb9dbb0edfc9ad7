//! Where addresses are, by the operator's database: a file of MaxMind's form, read anew when it changes.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use evergate_domain::cluster::{Located, PlaceCode};
use maxminddb::Reader;
use parking_lot::RwLock;
use serde::Deserialize;
use tracing::{info, warn};

/// How soon a file that was replaced is used.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A larger file is no database of countries.
const BYTES_MAX: u64 = 1 << 30;

/// The database. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Geoip(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    loaded: RwLock<Loaded>,
}

#[derive(Debug, Clone)]
struct Loaded {
    reader: Arc<Reader<Vec<u8>>>,
    seen: Seen,
}

/// By which a file that was replaced is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    modified: SystemTime,
    bytes: u64,
}

/// What is looked at of a record; databases of countries and of cities have it in common.
#[derive(Debug, Deserialize)]
struct Record<'a> {
    #[serde(borrow, default)]
    country: Option<Country<'a>>,
    #[serde(borrow, default)]
    registered_country: Option<Country<'a>>,
    #[serde(borrow, default)]
    continent: Option<Continent<'a>>,
}

#[derive(Debug, Deserialize)]
struct Country<'a> {
    #[serde(default)]
    iso_code: Option<&'a str>,
}

#[derive(Debug, Deserialize)]
struct Continent<'a> {
    #[serde(default)]
    code: Option<&'a str>,
}

impl Geoip {
    /// Reads the file. An error names it, and what is wrong with it.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let loaded = load(path).with_context(|| format!("cluster.geoip_file: {}", path.display()))?;
        tell(&loaded.reader);
        Ok(Self(Arc::new(Inner { path: path.to_owned(), loaded: RwLock::new(loaded) })))
    }

    /// Where an address is; nothing for one that the database does not know.
    pub(crate) fn locate(&self, address: IpAddr) -> Located {
        let reader = Arc::clone(&self.0.loaded.read().reader);
        let located = locate(&reader, address);
        let outcome = if located == Located::default() { "unknown" } else { "found" };
        metrics::counter!("evergate_geoip_lookups_total", "outcome" => outcome).increment(1);
        located
    }

    /// Looks at the file now and then, for ever.
    pub(crate) async fn keep_fresh(self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let geoip = self.clone();
            // It may lie on a network, and be large.
            if tokio::task::spawn_blocking(move || geoip.look()).await.is_err() {
                warn!("a look at the database of addresses failed");
            }
        }
    }

    fn look(&self) {
        let Inner { path, loaded } = &*self.0;
        let seen = fs::metadata(path).and_then(|of| Ok(Seen { modified: of.modified()?, bytes: of.len() }));
        if seen.as_ref().is_ok_and(|seen| *seen == loaded.read().seen) {
            return;
        }
        match load(path) {
            Ok(new) => {
                tell(&new.reader);
                *loaded.write() = new;
            }
            Err(why) => {
                // Said once for each file that does not work.
                if let Ok(seen) = seen {
                    loaded.write().seen = seen;
                }
                let (file, why) = (path.display().to_string(), format!("{why:#}"));
                warn!(file, why, "the new database of addresses does not work; the one before goes on");
            }
        }
    }
}

fn load(path: &Path) -> anyhow::Result<Loaded> {
    let of = fs::metadata(path).context("cannot be read")?;
    let seen = Seen { modified: of.modified().context("cannot be read")?, bytes: of.len() };
    anyhow::ensure!(seen.bytes <= BYTES_MAX, "has {} bytes, which no database of countries has", seen.bytes);
    let bytes = fs::read(path).context("cannot be read")?;
    let reader = Reader::from_source(bytes).context("is no MaxMind database")?;
    // What is damaged in the middle would be found by some client's address only.
    reader.verify().context("is a damaged MaxMind database")?;
    Ok(Loaded { reader: Arc::new(reader), seen })
}

fn tell(reader: &Reader<Vec<u8>>) {
    let about = reader.metadata();
    metrics::gauge!("evergate_geoip_built_timestamp_seconds").set(about.build_epoch as f64);
    info!(
        kind = about.database_type,
        built = about.build_epoch,
        "clients are located by a database of addresses"
    );
}

fn locate(reader: &Reader<Vec<u8>>, address: IpAddr) -> Located {
    let record = reader.lookup(address).and_then(|found| found.decode::<Record<'_>>());
    // An address that it cannot hold, such as one of IPv6 in a database of IPv4, is one that it does not know.
    let Ok(Some(Record { country, registered_country, continent })) = record else {
        return Located::default();
    };
    let code = |country: Option<Country<'_>>| country?.iso_code.and_then(PlaceCode::new);
    Located {
        country: code(country).or_else(|| code(registered_country)),
        continent: continent.and_then(|continent| continent.code).and_then(PlaceCode::new),
    }
}
