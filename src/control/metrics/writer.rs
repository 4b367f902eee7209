//! Families of metrics, written one after the other.

use std::{borrow::Cow, fmt};

use prometheus_client::{
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

pub(super) type Labels<'a> = Vec<(&'static str, Cow<'a, str>)>;
pub(super) type Row<'a, T> = (Labels<'a>, T);

pub(super) fn with<'a>(
    labels: &Labels<'a>,
    label: &'static str,
    value: &'static str,
) -> Labels<'a> {
    let mut labels = labels.clone();
    labels.push((label, value.into()));
    labels
}

/// Writes families: a name, a help text, and a value for each set of labels.
pub(super) struct Writer<'e>(pub(super) DescriptorEncoder<'e>);

impl Writer<'_> {
    pub(super) fn counter<'a>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = Row<'a, u64>>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        each(&mut family, rows, count)
    }

    pub(super) fn gauge<'a>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = Row<'a, u64>>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        each(&mut family, rows, |mut metric, value| {
            metric.encode_gauge(&value)
        })
    }

    /// A gauge whose name ends in `_bytes`.
    pub(super) fn bytes<'a>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = Row<'a, u64>>,
    ) -> fmt::Result {
        let unit = Some(&Unit::Bytes);
        let mut family = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Gauge)?;
        each(&mut family, rows, |mut metric, value| {
            metric.encode_gauge(&value)
        })
    }

    /// A metric whose name ends in `_seconds`, or `_seconds_total`.
    pub(super) fn seconds<'a>(
        &mut self,
        kind: MetricType,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = Row<'a, f64>>,
    ) -> fmt::Result {
        let unit = Some(&Unit::Seconds);
        let mut family = self.0.encode_descriptor(name, help, unit, kind)?;
        each(&mut family, rows, |mut metric, value| match kind {
            MetricType::Counter => metric.encode_counter::<NoLabelSet, _, f64>(&value, None),
            _ => metric.encode_gauge(&value),
        })
    }

    pub(super) fn signed(&mut self, name: &str, help: &str, value: i64) -> fmt::Result {
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Gauge)?;
        metric.encode_gauge(&value)
    }

    /// Frames and bytes received, frames and bytes sent.
    pub(super) fn traffic<'a>(
        &mut self,
        prefix: &str,
        from: &str,
        to: &str,
        rows: [&mut dyn Iterator<Item = Row<'a, u64>>; 4],
    ) -> fmt::Result {
        let names = [
            "receive_frames",
            "receive_bytes",
            "transmit_frames",
            "transmit_bytes",
        ];
        let help = [
            format!("Frames {from}; a superframe is one."),
            format!("Bytes {from}, without FCS."),
            format!("Frames {to}; a superframe is one."),
            format!("Bytes {to}, without FCS."),
        ];
        for ((name, help), rows) in names.iter().zip(help).zip(rows) {
            self.counter(&format!("{prefix}_{name}"), &help, rows)?;
        }
        Ok(())
    }
}

fn count(mut metric: MetricEncoder<'_>, value: u64) -> fmt::Result {
    metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

fn each<'a, T>(
    family: &mut MetricEncoder<'_>,
    rows: impl IntoIterator<Item = Row<'a, T>>,
    write: impl Fn(MetricEncoder<'_>, T) -> fmt::Result,
) -> fmt::Result {
    for (labels, value) in rows {
        write(family.encode_family(&labels)?, value)?;
    }
    Ok(())
}
