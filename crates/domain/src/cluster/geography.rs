//! Which region a client belongs to, by where it is.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::{Network, RegionName};

/// Two letters, in capitals: a country of ISO 3166, or a continent as databases of addresses name it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlaceCode([u8; 2]);

/// Where an address is, as far as a database knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Located {
    /// The country.
    pub country: Option<PlaceCode>,
    /// The continent.
    pub continent: Option<PlaceCode>,
}

/// Whom a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whereabouts {
    /// Addresses of a network.
    Network(Network),
    /// Addresses in a country.
    Country(PlaceCode),
    /// Addresses on a continent.
    Continent(PlaceCode),
    /// All others.
    Elsewhere,
}

/// Clients from there belong to a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeographyRule {
    /// From where.
    pub whereabouts: Whereabouts,
    /// To which.
    pub region: RegionName,
}

/// The text is no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no rule such as \"country:DE=eu-west\", \"continent:NA=us-east\", \"network:10.0.0.0/8=eu-west\" or \"elsewhere=eu-west\""
)]
pub struct GeographyError(pub String);

/// All rules. The narrowest that fits holds: a network before a country, a country before a continent, and
/// of two networks the one with the longer prefix.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Geography {
    /// The longest prefix first.
    networks: Vec<(Network, RegionName)>,
    countries: BTreeMap<PlaceCode, RegionName>,
    continents: BTreeMap<PlaceCode, RegionName>,
    elsewhere: Option<RegionName>,
}

impl PlaceCode {
    /// Two letters, in capitals.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        match *text.as_bytes() {
            [a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Some(Self([a, b])),
            _ => None,
        }
    }
}

impl fmt::Debug for PlaceCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", char::from(self.0[0]), char::from(self.0[1]))
    }
}

impl FromStr for GeographyRule {
    type Err = GeographyError;

    fn from_str(text: &str) -> Result<Self, GeographyError> {
        let error = || GeographyError(text.to_owned());
        let (whom, region) = text.split_once('=').ok_or_else(error)?;
        let region = RegionName::new(region).map_err(|_| error())?;
        let whereabouts = match whom.split_once(':') {
            None if whom == "elsewhere" => Some(Whereabouts::Elsewhere),
            Some(("network", network)) => network.parse().ok().map(Whereabouts::Network),
            Some(("country", code)) => PlaceCode::new(code).map(Whereabouts::Country),
            Some(("continent", code)) => PlaceCode::new(code).map(Whereabouts::Continent),
            Some(_) | None => None,
        };
        Ok(Self { whereabouts: whereabouts.ok_or_else(error)?, region })
    }
}

impl FromIterator<GeographyRule> for Geography {
    /// Of two rules about the same the later one holds.
    fn from_iter<I: IntoIterator<Item = GeographyRule>>(rules: I) -> Self {
        let mut geography = Self::default();
        for GeographyRule { whereabouts, region } in rules {
            match whereabouts {
                Whereabouts::Network(network) => {
                    geography.networks.retain(|(known, _)| *known != network);
                    geography.networks.push((network, region));
                }
                Whereabouts::Country(code) => drop(geography.countries.insert(code, region)),
                Whereabouts::Continent(code) => drop(geography.continents.insert(code, region)),
                Whereabouts::Elsewhere => geography.elsewhere = Some(region),
            }
        }
        geography.networks.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix()));
        geography
    }
}

impl Geography {
    /// Whether nothing follows from it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Which region a client belongs to; `None` if no rule is about it. `locate` is asked only where no
    /// network fits.
    pub fn region(&self, address: IpAddr, locate: impl FnOnce(IpAddr) -> Located) -> Option<&RegionName> {
        if let Some((_, region)) = self.networks.iter().find(|(network, _)| network.contains(address)) {
            return Some(region);
        }
        let located = if self.countries.is_empty() && self.continents.is_empty() {
            Located::default()
        } else {
            locate(address)
        };
        let by_country = located.country.and_then(|code| self.countries.get(&code));
        let by_continent = || located.continent.and_then(|code| self.continents.get(&code));
        by_country.or_else(by_continent).or(self.elsewhere.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geography(rules: &[&str]) -> Geography {
        rules.iter().map(|rule| rule.parse::<GeographyRule>().expect("a rule")).collect()
    }

    fn located(country: &str, continent: &str) -> Located {
        Located { country: PlaceCode::new(country), continent: PlaceCode::new(continent) }
    }

    #[test]
    fn the_narrowest_rule_holds() {
        let rules = geography(&[
            "network:10.0.0.0/8=private",
            "network:10.1.0.0/16=lab",
            "continent:EU=eu",
            "country:GB=uk",
            "elsewhere=us",
        ]);
        let region = |address: &str, at: Located| {
            let address = address.parse().expect("an address");
            rules.region(address, |_| at).map(ToString::to_string).expect("there is one for all others")
        };
        assert_eq!(region("10.1.2.3", located("GB", "EU")), "lab");
        assert_eq!(region("10.2.2.3", located("GB", "EU")), "private");
        assert_eq!(region("192.0.2.1", located("GB", "EU")), "uk");
        assert_eq!(region("192.0.2.1", located("FR", "EU")), "eu");
        assert_eq!(region("192.0.2.1", located("", "EU")), "eu");
        assert_eq!(region("192.0.2.1", located("JP", "AS")), "us");
        assert_eq!(region("2001:db8::1", Located::default()), "us");
        assert_eq!(Geography::default().region(IpAddr::from([1, 2, 3, 4]), |_| located("GB", "EU")), None);
        assert!(Geography::default().is_empty() && !rules.is_empty());
    }

    #[test]
    fn the_database_is_not_asked_for_nothing() {
        let rules = geography(&["network:10.0.0.0/8=private", "elsewhere=us"]);
        let asked = |_| -> Located { unreachable!("nothing follows from it") };
        let region = rules.region(IpAddr::from([192, 0, 2, 1]), asked);
        assert_eq!(region.map(RegionName::as_str), Some("us"));
    }

    #[test]
    fn what_is_no_rule_is_refused_as_a_whole() {
        for text in [
            "",
            "DE=eu",
            "country:de=eu",
            "country:DEU=eu",
            "country:DE",
            "country:DE=",
            "planet:EU=eu",
            "network:10.0.0.1/8=eu",
            "network:x=eu",
            "elsewhere:EU=eu",
            "elsewhere=e u",
        ] {
            let error = text.parse::<GeographyRule>().expect_err(text);
            assert!(error.to_string().contains("is no rule such as"), "{text}");
        }
    }
}
