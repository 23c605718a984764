//! How far analytic costs are from those published for 64 A100s with FlexSP.

use std::fmt::Write;
use std::path::Path;

use lengthwise_core::{
    Activations, Bytes, Cluster, Degree, MemoryModel, Strategy, StrategyKind, Tokens,
};
use lengthwise_cost::{
    AnalyticModel, Architecture, CostModel, FittedCosts, FittedModel, GroupShape, Hardware,
    KindCosts, MatrixFlops, ModelKind, Profile, Span,
};

fn examples() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

fn a100s() -> Hardware {
    Hardware::read(&examples().join("clusters/a100-8x8.toml")).unwrap()
}

/// The published model of `kind` with a context of 192k tokens, and the analytic one.
fn published_and_analytic(kind: ModelKind) -> (FittedModel, AnalyticModel) {
    let path = examples().join(format!("profiles/a100-{kind}-192k.toml"));
    let profile = Profile::read(&path).unwrap();
    let cluster = profile.cluster(None).unwrap();
    let analytic = AnalyticModel::new(kind.architecture(192_000), a100s());
    (profile.model(&cluster).unwrap(), analytic)
}

/// By how much the first is above the second.
fn excess(ours: f64, published: f64) -> f64 {
    ours / published - 1.0
}

/// The costs of the one kind of strategy there is.
fn of_kind(costs: &FittedCosts) -> &KindCosts {
    &costs.kinds[&StrategyKind::ulysses(Activations::Recompute)]
}

const GPTS: [ModelKind; 3] = [ModelKind::Gpt7B, ModelKind::Gpt13B, ModelKind::Gpt30B];

#[test]
fn memory_per_token_is_within_5_percent() {
    for kind in GPTS {
        let (published, analytic) = published_and_analytic(kind);
        let published = published.memory_bytes_per_token(shape(1, Span::OneNode).strategy);
        let excess = excess(analytic.activation_bytes_per_token(), published);
        assert!(excess.abs() < 0.05, "{kind}: {excess}");
    }
}

#[test]
fn states_take_what_is_published_for_them() {
    for kind in GPTS {
        let (published, analytic) = published_and_analytic(kind);
        let profile = analytic.profile(192_000).unwrap();
        let states = profile.model.sharded_bytes / 64.0;
        let excess = excess(states, published.costs().fixed_memory_bytes);
        assert!(excess.abs() < 1e-6, "{kind}: {excess}");
    }
}

#[test]
fn times_without_recomputation_are_within_15_percent() {
    let device = *a100s().device();
    for kind in GPTS {
        let (published, analytic) = published_and_analytic(kind);
        let flops = MatrixFlops::without_recomputation(analytic.architecture());
        let peak = device.peak_flops_per_s();
        let linear = flops.per_token / (peak * device.efficiency());
        let quadratic = flops.per_token2 / (peak * device.attention_efficiency());
        let published = of_kind(published.costs());
        for (name, excess) in [
            ("linear", excess(linear, published.linear_s_per_token)),
            (
                "quadratic",
                excess(quadratic, published.quadratic_s_per_token2),
            ),
        ] {
            assert!(excess.abs() < 0.15, "{kind} {name}: {excess}");
        }
    }
}

#[test]
fn published_times_leave_no_room_for_recomputation() {
    // Of the A100's peak, were the recomputation that the published code does part of the published time per token.
    let of_peak = |kind| {
        let (published, analytic) = published_and_analytic(kind);
        let flops = MatrixFlops::of(analytic.architecture()).per_token;
        flops / (of_kind(published.costs()).linear_s_per_token * 312e12)
    };
    assert!((of_peak(ModelKind::Gpt7B) - 0.75).abs() < 0.01);
    assert!((of_peak(ModelKind::Gpt13B) - 0.98).abs() < 0.01);
    assert!((of_peak(ModelKind::Gpt30B) - 1.01).abs() < 0.01);
}

#[test]
fn deviations_are_those_that_the_documentation_states() {
    let mut table = String::new();
    for kind in GPTS {
        let (published, analytic) = published_and_analytic(kind);
        // The published overhead is one for all contexts; tables of positions for long ones add to the gathers.
        let short = AnalyticModel::new(kind.architecture(4096), a100s());
        let (ours, theirs) = (analytic.model().unwrap(), published.costs().clone());
        let percent =
            |ours: f64, published: f64| format!("{:+.0} %", 100.0 * excess(ours, published));
        let costs = analytic.costs();
        let (our_kind, their_kind) = (of_kind(&costs), of_kind(&theirs));
        let _ = writeln!(
            table,
            "{kind}: per token {}, per token^2 {}, memory {}, overhead {} ({} with 192k positions)",
            percent(our_kind.linear_s_per_token, their_kind.linear_s_per_token),
            percent(
                our_kind.quadratic_s_per_token2,
                their_kind.quadratic_s_per_token2
            ),
            percent(
                analytic.activation_bytes_per_token(),
                published.memory_bytes_per_token(shape(1, Span::OneNode).strategy)
            ),
            percent(
                short.costs().micro_batch_overhead_s,
                theirs.micro_batch_overhead_s
            ),
            percent(costs.micro_batch_overhead_s, theirs.micro_batch_overhead_s),
        );
        for degree in [2, 4, 8, 16, 32, 64] {
            let span = if degree <= 8 {
                Span::OneNode
            } else {
                Span::ManyNodes
            };
            let exchange = percent(
                ours.exchange_s_per_token(shape(degree, span)),
                published.exchange_s_per_token(shape(degree, span)),
            );
            let _ = writeln!(table, "  exchange at degree {degree}: {exchange}");
        }
    }
    insta::assert_snapshot!(table);
}

fn shape(degree: u32, span: Span) -> GroupShape {
    let strategy = Strategy::ulysses(Degree::new(degree).unwrap(), Activations::Recompute);
    GroupShape { strategy, span }
}

#[test]
fn a_profile_gives_the_same_costs_as_the_model_itself() {
    for kind in ModelKind::ALL {
        let analytic = AnalyticModel::new(kind.architecture(65_536), a100s());
        let text = analytic.profile(65_536).unwrap().to_toml().unwrap();
        let profile = Profile::from_toml(&text).unwrap();
        let cluster = profile.cluster(None).unwrap();
        // A profile knows nothing of hosts yet.
        let described = analytic.hardware().cluster().unwrap();
        assert_eq!(cluster.num_nodes(), described.num_nodes());
        let figures = |cluster: &Cluster| {
            let devices = cluster.devices().iter();
            let figures = devices.map(|device| (device.memory(), device.speed()));
            figures.collect::<Vec<_>>()
        };
        assert_eq!(figures(&cluster), figures(&described));
        assert_eq!(profile.space(&cluster).unwrap(), analytic.space().unwrap());
        let (by_profile, itself) = (profile.model(&cluster).unwrap(), analytic.model().unwrap());
        for (degree, span) in [
            (1, Span::OneNode),
            (8, Span::OneNode),
            (3, Span::OneNode),
            (8, Span::ManyNodes),
            (24, Span::ManyNodes),
        ] {
            let shape = shape(degree, span);
            let tokens = Tokens(20_000);
            let times = [&by_profile, &itself].map(|m| m.sequence_time(shape, tokens).get());
            assert!((times[0] / times[1] - 1.0).abs() < 1e-9, "{kind} {times:?}");
            let memory = [&by_profile, &itself].map(|m| m.sequence_memory(shape.strategy, tokens));
            assert!(memory[0].0.abs_diff(memory[1].0) <= 1);
        }
        let device = &cluster.devices()[0];
        let budgets = [&by_profile, &itself].map(|m| m.budget(device));
        assert!(budgets[0].0.abs_diff(budgets[1].0) <= 1);
    }
}

#[test]
fn key_value_heads_make_exchanges_cheaper_until_ranks_outnumber_them() {
    let bytes = |kind: ModelKind, degree| {
        let analytic = AnalyticModel::new(kind.architecture(8192), a100s());
        analytic.exchange_bytes_per_token(Degree::new(degree).unwrap())
    };
    // 32 query heads and 8 key/value heads of 128, 32 layers, 2 bytes, forward, recomputation and backward.
    let heads = |num: f64| 2.0 * num * 128.0 * 32.0 * 2.0 * 3.0;
    assert_eq!(bytes(ModelKind::Llama3With8B, 8), heads(32.0 + 8.0));
    assert_eq!(bytes(ModelKind::Llama3With8B, 16), heads(32.0 + 16.0));
    assert_eq!(bytes(ModelKind::Llama2With7B, 16), heads(32.0 + 32.0));
}

#[test]
fn recomputation_trades_memory_for_time() {
    let architecture = |recomputation: &str| {
        let text = format!(
            "name = 'a'\nnum_layers = 4\nhidden = 512\nnum_heads = 8\nffn = 1408\nvocabulary = 1000\n\
             recomputation = {recomputation}"
        );
        AnalyticModel::new(Architecture::from_toml(&text).unwrap(), a100s())
    };
    let none = architecture("'none'");
    let selective = architecture("{ selective = { mlp_layers = 4, attention_layers = 0 } }");
    let full = architecture("'full'");
    let memory = [&none, &selective, &full].map(AnalyticModel::activation_bytes_per_token);
    assert!(memory[0] > memory[1] && memory[1] > memory[2], "{memory:?}");
    let time = [&none, &selective, &full].map(AnalyticModel::linear_s_per_token);
    assert!(time[0] < time[1] && time[1] < time[2], "{time:?}");
    // 12 products of 512^2 or 512 x 1408 a layer: forward, backward twice that; full recomputation adds a forward.
    let matrices = 4.0 * (4.0 * 512.0 * 512.0 + 3.0 * 512.0 * 1408.0);
    let flops = |model: &AnalyticModel| MatrixFlops::of(model.architecture()).per_token;
    assert_eq!(flops(&none), 6.0 * (matrices + 1000.0 * 512.0));
    assert_eq!(flops(&full), 8.0 * matrices + 6.0 * 1000.0 * 512.0);
    assert_eq!(
        none.quadratic_s_per_token2(),
        selective.quadratic_s_per_token2()
    );
}

#[test]
fn more_devices_leave_more_memory_and_no_less_overhead() {
    let kind = ModelKind::Llama3With70B;
    let mut last: Option<(Bytes, f64)> = None;
    let mut num_fitting = 0;
    for num_devices in [8, 16, 64, 512, 4096] {
        let hardware = a100s().with_num_devices(num_devices).unwrap();
        let analytic = AnalyticModel::new(kind.architecture(8192), hardware);
        let model = analytic.model().unwrap();
        let cluster = analytic.hardware().cluster().unwrap();
        let budget = model.budget(&cluster.devices()[0]);
        let overhead = model.micro_batch_overhead().get();
        if let Some((last_budget, last_overhead)) = last {
            // A device that the states alone are too large for has nothing left.
            assert!(budget > last_budget || budget == Bytes(0));
            assert!(overhead >= last_overhead);
        }
        num_fitting += usize::from(budget > Bytes(0));
        last = Some((budget, overhead));
    }
    assert!(num_fitting >= 3, "{num_fitting}");
}

#[test]
fn a_bad_model_is_one_error_that_names_key_value_and_rule() {
    let good = "name = 'a'\nnum_layers = 4\nhidden = 512\nnum_heads = 8\nnum_kv_heads = 2\nffn = 1408\n\
                vocabulary = 1000\n";
    Architecture::from_toml(good).unwrap();
    let mut told = String::new();
    for (from, to) in [
        ("num_layers = 4", "num_layers = 0"),
        ("num_heads = 8", "num_heads = 0"),
        ("num_heads = 8", "num_heads = 7"),
        ("num_kv_heads = 2", "num_kv_heads = 3"),
        ("num_kv_heads = 2", "num_kv_heads = 0"),
        ("vocabulary = 1000", "vocab = 1000"),
        ("ffn = 1408", "ffn = -1"),
        ("ffn = 1408", "ffn = 1408\nrecomputation = 'some'"),
        (
            "ffn = 1408",
            "ffn = 1408\nrecomputation = { selective = { mlp_layers = 5, attention_layers = 0 } }",
        ),
    ] {
        let error = Architecture::from_toml(&good.replacen(from, to, 1)).unwrap_err();
        let _ = writeln!(told, "{}", error.to_string().trim_end());
        if let Some(hint) = error.hint() {
            let _ = writeln!(told, "hint: {hint}");
        }
        told.push('\n');
    }
    insta::assert_snapshot!(told);
}
