//! What those who run Evergate see of it: figures, rules about them, pictures of them, and the chart.

mod audit;
mod boards;
mod chart;
mod exemplars;
mod explain;
mod heap;
mod image;
mod metrics;
mod names;
mod prometheus;
mod rules;
