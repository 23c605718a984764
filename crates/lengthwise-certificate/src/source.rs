//! Whether the tables of a certificate are the costs of a model.

use lengthwise_core::{Cluster, JointMemory, Tokens};
use lengthwise_cost::{CostModel, GroupShape};

use crate::Refusal;
use crate::format::Certificate;
use crate::tables::Tables;

/// The same costs, computed again, may differ by this part.
const ROUNDING: f64 = 1e-12;

/// Compares the devices and tables of a certificate with those of a cluster and a model on it.
///
/// # Errors
///
/// The first device or cost that differs, or a certificate that can't be read.
pub fn check_source(
    certificate: &Certificate,
    cluster: &Cluster,
    cost: &dyn CostModel,
) -> Result<(), Refusal> {
    let tables = Tables::of(certificate)?;
    let same = |found: f64, expected: f64| (found - expected).abs() <= ROUNDING * expected.abs();
    let differs = |what: String, found: f64, expected: f64| {
        Err(Refusal::OtherCosts {
            what,
            found,
            expected,
        })
    };
    let nodes = |cluster: &Cluster| {
        (0..cluster.num_nodes())
            .map(|node| cluster.node_ranks(node))
            .collect::<Vec<_>>()
    };
    if nodes(&tables.cluster) != nodes(cluster) {
        let num = |cluster: &Cluster| f64::from(cluster.num_devices());
        return differs(
            "the devices by node".to_owned(),
            num(&tables.cluster),
            num(cluster),
        );
    }
    let devices = tables.cluster.devices().iter().zip(cluster.devices());
    for (rank, (found, expected)) in devices.enumerate() {
        let (speed, expected_speed) = (found.speed().get(), expected.speed().get());
        if !same(speed, expected_speed) {
            return differs(format!("the speed of rank {rank}"), speed, expected_speed);
        }
        let (bytes, expected) = (found.memory().0, cost.budget(expected).0);
        if bytes != expected && tables.rules.limits_memory() {
            return differs(
                format!("the bytes of rank {rank} for sequences"),
                bytes as f64,
                expected as f64,
            );
        }
    }
    let overhead = cost.micro_batch_overhead().get();
    if !same(tables.overhead, overhead) {
        return differs(
            "the seconds of a micro-batch's overhead".to_owned(),
            tables.overhead,
            overhead,
        );
    }
    let joint_memory = JointMemory::of(cost, cluster);
    for (index, shape) in tables.shapes.iter().enumerate() {
        let (strategy, span) = (shape.strategy, shape.span);
        if !cost.prices(strategy) {
            return Err(Refusal::NoSource { strategy });
        }
        for (class, &seq_len) in tables.lens.iter().enumerate() {
            let of = GroupShape { strategy, span };
            let seconds = cost.sequence_time(of, Tokens(seq_len)).get();
            if !same(shape.seconds[class], seconds) {
                let what = format!("the seconds of {seq_len} tokens in shape {index} ({strategy})");
                return differs(what, shape.seconds[class], seconds);
            }
            let bytes = joint_memory.load(cost, strategy, Tokens(seq_len)).0;
            if tables.rules.limits_memory() && shape.bytes[class] != bytes {
                let what = format!("the bytes of {seq_len} tokens in shape {index} ({strategy})");
                return differs(what, shape.bytes[class] as f64, bytes as f64);
            }
        }
    }
    Ok(())
}
