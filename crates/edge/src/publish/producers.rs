//! Who may publish as which producer.

use evergate_domain::ProducerId;
use evergate_tls::Identity;

/// Whose sequences are whose: with none in it, anybody publishes as anybody. As soon as there is one, a
/// producer is used only by who proved to be one of those bound to it; events without a producer
/// are nobody's sequence, and anybody's to publish.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProducerBindings(Vec<ProducerBinding>);

/// Who proves to be this may publish as that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerBinding {
    /// A name of a certificate, or a pattern, see [`Identity::fits`].
    pub identity: String,
    /// A producer's id; a `*` at the end stands for anything.
    pub producer: String,
}

impl ProducerBindings {
    /// With these.
    #[must_use]
    pub fn new(bindings: Vec<ProducerBinding>) -> Self {
        Self(bindings)
    }

    pub(super) fn allow(&self, identity: Option<&Identity>, producer: &ProducerId) -> bool {
        self.0.is_empty()
            || identity.is_some_and(|identity| {
                self.0.iter().any(|bound| bound.fits(producer) && identity.fits(&bound.identity))
            })
    }
}

impl ProducerBinding {
    fn fits(&self, producer: &ProducerId) -> bool {
        let producer = producer.as_str();
        match self.producer.strip_suffix('*') {
            Some(prefix) => producer.starts_with(prefix),
            None => producer == self.producer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_bindings_anybody_is_anybody_and_with_one_nobody_is_without_proof() {
        let producer = ProducerId::new("pricing-7").expect("valid");
        assert!(ProducerBindings::default().allow(None, &producer));
        let bound = |identity: &str, producer: &str| {
            ProducerBindings::new(vec![ProducerBinding {
                identity: identity.to_owned(),
                producer: producer.to_owned(),
            }])
        };
        assert!(!bound("*", "*").allow(None, &producer), "there has to be a proof");
        assert!(bound("x", "pricing-7").0[0].fits(&producer) && bound("x", "pricing-*").0[0].fits(&producer));
        assert!(
            !bound("x", "pricing-").0[0].fits(&producer) && !bound("x", "pricing-70").0[0].fits(&producer)
        );
    }
}
