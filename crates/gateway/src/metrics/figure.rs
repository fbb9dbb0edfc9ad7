//! One metric, as its table describes it.

/// What a metric is, and what to make of it.
#[derive(Debug)]
pub(crate) struct Figure {
    /// With prefix and unit: `evergate_publish_seconds`.
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [Label],
    pub from: From,
    /// What it counts, in one sentence.
    pub means: &'static str,
    /// What a reader does about it.
    pub act: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only rises, from zero at the start of the process.
    Counter,
    Gauge,
    /// Counts of observations by upper bound, their number and their sum.
    Histogram,
}

/// The part of the process that tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// Any process there is.
    All,
    /// Any that serves subscribers and publishers.
    Any,
    /// A control node.
    Control,
    /// One that belongs to a cluster with control nodes.
    Cluster,
    /// One of those two.
    View,
    /// One where access is by token.
    Access,
    /// One that speaks TLS.
    Tls,
    /// One whose log is on its own disk.
    Disk,
    /// One whose log is in Redis.
    Redis,
}

/// A label. Never anything a client chose: the number of time series has a bound.
#[derive(Debug)]
pub(crate) struct Label {
    pub name: &'static str,
    pub values: Values,
}

#[derive(Debug)]
pub(crate) enum Values {
    /// These and no others. Each is there from the start, at zero, so that a rate sees its first event.
    These(&'static [&'static str]),
    /// As many as the words say.
    As(&'static str),
}

impl Kind {
    /// The word of the text format.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl From {
    /// Whether a process whose log tells `part`, or which is a control node, has it from its start; or one
    /// that belongs to a cluster from when it does.
    pub(crate) fn is_told(self, part: Self) -> bool {
        match self {
            Self::All => true,
            Self::Any => !matches!(part, Self::Control | Self::Cluster),
            Self::View => matches!(part, Self::Control | Self::Cluster),
            Self::Control | Self::Cluster | Self::Access | Self::Tls | Self::Disk | Self::Redis => {
                self == part
            }
        }
    }

    /// Where it is found, in words; nothing for what is found everywhere.
    pub(crate) const fn remark(self) -> &'static str {
        match self {
            Self::All | Self::Any => "",
            Self::Control => "; of a control node",
            Self::Cluster => "; in a cluster with control nodes",
            Self::View => "; of a control node, and in a cluster with control nodes",
            Self::Access => "; with `access.mode = \"tokens\"`",
            Self::Tls => "; with TLS",
            Self::Disk => "; with `disk:`",
            Self::Redis => "; with Redis",
        }
    }
}

impl Figure {
    /// Every set of labels that is known beforehand: none if one of them is not.
    pub(crate) fn series(&self) -> Vec<Vec<(&'static str, &'static str)>> {
        let mut series = vec![Vec::new()];
        for label in self.labels {
            let Values::These(values) = label.values else { return Vec::new() };
            series = series
                .into_iter()
                .flat_map(|before| {
                    values.iter().map(move |value| {
                        let mut with = before.clone();
                        with.push((label.name, *value));
                        with
                    })
                })
                .collect();
        }
        series
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_of_closed_labels_is_known() {
        let figure = |labels| Figure {
            name: "evergate_x_total",
            kind: Kind::Counter,
            labels,
            from: From::Any,
            means: "",
            act: "",
        };
        assert_eq!(figure(&[]).series(), [vec![]]);
        let two = figure(&[
            Label { name: "a", values: Values::These(&["1", "2"]) },
            Label { name: "b", values: Values::These(&["x"]) },
        ]);
        assert_eq!(two.series(), [vec![("a", "1"), ("b", "x")], vec![("a", "2"), ("b", "x")]]);
        let open = figure(&[
            Label { name: "a", values: Values::These(&["1"]) },
            Label { name: "b", values: Values::As("one for each") },
        ]);
        assert!(open.series().is_empty());
    }
}
