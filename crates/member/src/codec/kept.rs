//! What a node keeps of a view, for a start at which no control node can be reached.

use evergate_domain::cluster::View;
use evergate_proto::control::v1 as proto;
use prost::Message as _;

use super::DecodeError;
use super::change::{decode_view, encode_view};

/// What such a file begins with. The number is raised with whatever an earlier version would misread.
const TITLE: &[u8] = b"evergate agreed policies 1\n";
/// All titles begin so; one of another version is told from one that is none.
const TITLE_START: &[u8] = b"evergate agreed policies ";

/// Why nothing of what was kept is used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeptError {
    /// Whatever it is, it was not written by this program.
    #[error("it holds something else")]
    Foreign,
    /// Written by a later version of this program.
    #[error("a later version of this program wrote it")]
    Newer,
    /// Cut off, or changed.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// Another cluster's word.
    #[error("it is what cluster {found:?} agreed on, and this node belongs to {own:?}")]
    OtherCluster {
        /// Whose it is.
        found: String,
        /// Whose node reads it.
        own: String,
    },
}

/// What a node of this cluster keeps of a view: the policies and limits, by a digest of which it is seen whether they
/// are whole.
#[must_use]
pub fn encode_kept(cluster: &str, view: &View) -> Vec<u8> {
    let kept = proto::Kept { cluster: cluster.to_owned(), view: Some(encode_view(&view.policies_alone())) };
    let mut bytes = TITLE.to_vec();
    kept.encode(&mut bytes).expect("there is always room in a vector");
    bytes
}

/// A view that has the policies and limits that a node of this cluster kept, and nothing else; all of them, or none.
pub fn decode_kept(cluster: &str, bytes: &[u8]) -> Result<View, KeptError> {
    let Some(body) = bytes.strip_prefix(TITLE) else {
        let is_ours = bytes.starts_with(TITLE_START);
        return Err(if is_ours { KeptError::Newer } else { KeptError::Foreign });
    };
    let damaged = |why: String| KeptError::Damaged(why);
    let kept = proto::Kept::decode(body).map_err(|error| damaged(error.to_string()))?;
    let view = kept.view.ok_or_else(|| damaged("it is cut off".to_owned()))?;
    let view = decode_view(&view).map_err(|error: DecodeError| damaged(error.to_string()))?;
    if kept.cluster != cluster {
        return Err(KeptError::OtherCluster { found: kept.cluster, own: cluster.to_owned() });
    }
    Ok(view)
}

#[cfg(test)]
mod tests {
    use super::*;
    use evergate_domain::cluster::testing::change;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_kept_comes_back_and_nothing_that_is_torn_or_changed(changes in prop::collection::vec(change(), 0..12)) {
            let mut view = View::default();
            view.advance(changes);
            let whole = encode_kept("one", &view);
            let read = decode_kept("one", &whole).expect("as it was written");
            prop_assert_eq!(read.policies(), view.policies());
            prop_assert_eq!(read.limits(), view.limits());
            prop_assert_eq!(read.version(), view.version());
            for end in 0..whole.len() {
                prop_assert!(decode_kept("one", &whole[..end]).is_err(), "cut at {}", end);
            }
            for bit in 0..whole.len() * 8 {
                let mut changed = whole.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                // What makes no difference to what is read is no damage.
                if let Ok(other) = decode_kept("one", &changed) {
                    prop_assert_eq!(&other, &read, "bit {}", bit);
                }
            }
        }
    }

    #[test]
    fn whose_it_is_not_is_told() {
        let whole = encode_kept("one", &View::default());
        let told = |bytes: &[u8], cluster| decode_kept(cluster, bytes).expect_err("not for it").to_string();
        assert_eq!(
            told(&whole, "two"),
            "it is what cluster \"one\" agreed on, and this node belongs to \"two\""
        );
        assert_eq!(told(b"{}", "one"), "it holds something else");
        assert_eq!(told(b"", "one"), "it holds something else");
        assert_eq!(told(b"evergate agreed policies 2\n", "one"), "a later version of this program wrote it");
        assert!(told(&whole[..whole.len() - 1], "one").starts_with("it is damaged: "));
    }
}
