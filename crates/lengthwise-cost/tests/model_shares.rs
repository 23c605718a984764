//! Analytic costs where tensor and pipeline parallelism divide the model.

use std::fmt::Write;

use lengthwise_core::{
    Activations, Cluster, Degree, MemoryModel, Rank, Strategy, StrategyFamily, StrategyKind, Tokens,
};
use lengthwise_cost::{
    AnalyticModel, CostModel, FittedModel, GroupShape, Hardware, ModelKind, ModelShare, Profile,
    Span,
};

fn analytic(cluster: &str, tensor: u32, pipeline: u32) -> AnalyticModel {
    let architecture = ModelKind::Llama31With8B.architecture(65_536);
    let share = ModelShare::new(tensor, pipeline).unwrap();
    let whole = AnalyticModel::new(architecture, Hardware::named(cluster).unwrap());
    whole.with_share(share).unwrap()
}

const SHARES: [(u32, u32); 7] = [(1, 1), (2, 1), (8, 1), (1, 2), (1, 8), (4, 2), (2, 4)];

fn close(ours: f64, expected: f64) {
    assert!(
        (ours / expected - 1.0).abs() < 1e-9,
        "{ours} is not {expected}"
    );
}

#[test]
fn the_whole_model_costs_what_it_did() {
    let architecture = ModelKind::Llama31With8B.architecture(65_536);
    let hardware = Hardware::named("h100-8x8").unwrap();
    let plain = AnalyticModel::new(architecture, hardware);
    assert_eq!(plain, analytic("h100-8x8", 1, 1));
    assert!(plain.share().is_whole());
    assert_eq!(
        plain.cluster().unwrap(),
        plain.hardware().cluster().unwrap()
    );
}

#[test]
fn all_devices_of_a_rank_together_compute_what_one_did() {
    let whole = analytic("h100-8x8", 1, 1);
    for (tensor, pipeline) in SHARES {
        let divided = analytic("h100-8x8", tensor, pipeline);
        let devices = f64::from(tensor * pipeline);
        close(
            divided.quadratic_s_per_token2() * devices,
            whole.quadratic_s_per_token2(),
        );
        // Two sums of 4096 numbers of 2 bytes behind attention and MLP, forward, recomputed and backward, 32 layers.
        let sums = 2.0 * 3.0 * 32.0 * 4096.0 * 2.0 * 2.0 * f64::from(tensor - 1);
        let linear = (divided.linear_s_per_token() * devices - whole.linear_s_per_token()).abs();
        let expected = sums / 450e9;
        assert!(
            (linear - expected).abs() < 1e-9 * expected.max(1e-6),
            "{linear}"
        );
        // Each of the devices' heads travels once: no key/value head is there twice yet.
        let bytes = divided.exchange_bytes_per_token(Degree::ONE) * devices;
        close(bytes, whole.exchange_bytes_per_token(Degree::ONE));
    }
}

#[test]
fn ranks_heads_and_nodes_are_divided_by_what_they_stand_for() {
    for (tensor, pipeline) in SHARES {
        let analytic = analytic("h100-8x8", tensor, pipeline);
        let cluster = analytic.cluster().unwrap();
        assert_eq!(cluster.num_devices(), 64 / (tensor * pipeline));
        let per_node = (8 / tensor).min(cluster.num_devices());
        assert_eq!(cluster.node_ranks(0), Some(0..per_node));
        let largest = analytic.space().unwrap().degrees().last().unwrap().get();
        assert_eq!(largest, (32 / tensor).min(64 / (tensor * pipeline)));
        let rings = analytic
            .space_of(&[StrategyFamily::Ring], &[Activations::Recompute], None)
            .unwrap();
        let largest = rings.degrees().last().unwrap().get();
        assert_eq!(largest, 64 / (tensor * pipeline));
    }
}

#[test]
fn memory_falls_as_devices_share_what_they_hold() {
    let bytes =
        |tensor, pipeline| analytic("h100-8x8", tensor, pipeline).activation_bytes_per_token();
    let whole = bytes(1, 1);
    close(bytes(4, 1), whole / 4.0);
    // Layers keep 8 KiB each, 16 bytes for each of 128,256 words stand at the output; one that is recomputed holds less.
    let (kept, output) = (32.0 * 8192.0, 16.0 * 128_256.0);
    close(whole, kept + output);
    close(bytes(1, 8), kept / 8.0 + output);
    close(bytes(4, 2), (kept / 2.0 + output) / 4.0);
    let fixed = |tensor, pipeline| {
        let analytic = analytic("h100-8x8", tensor, pipeline);
        analytic.costs().fixed_memory_bytes
    };
    // States are divided among all devices whatever they share; gathered layers are a share of them.
    let states = 16.0 * 8_030_261_248.0 / 64.0;
    close(fixed(1, 1) - states, 4.0 * (fixed(4, 1) - states));
    // The first of two stages has 16 layers and the embedding, the last as many and the output.
    let layer = (8_030_261_248.0 - 2.0 * 128_256.0 * 4096.0 - 4096.0) / 32.0;
    let stage = 16.0 * layer + 128_256.0 * 4096.0 + 4096.0;
    close(fixed(1, 2) - 16.0 * stage / 32.0, fixed(1, 1) - states);
}

#[test]
fn learned_positions_are_held_by_the_first_stage_alone() {
    let stage = |positions: u64| {
        let architecture = format!(
            "name = 'a'\nnum_layers = 2\nhidden = 512\nnum_heads = 8\nffn = 1408\nvocabulary = 8\nrecomputation = 'none'\n\
             learned_positions = {positions}"
        );
        let architecture = lengthwise_cost::Architecture::from_toml(&architecture).unwrap();
        let hardware = Hardware::named("h100-1x8").unwrap();
        let analytic = AnalyticModel::new(architecture, hardware);
        let share = ModelShare::new(1, 2).unwrap();
        analytic
            .with_share(share)
            .unwrap()
            .costs()
            .fixed_memory_bytes
    };
    // 16 bytes a parameter over the 4 ranks of a stage, and what is gathered; a last norm of 512 is behind the last layer.
    let (few, many) = (stage(1), stage(1001));
    assert!(many - few >= 16.0 * 1000.0 * 512.0 / 4.0, "{few} {many}");
}

#[test]
fn stages_move_the_inputs_of_their_own_layers_to_the_host() {
    let host = |tensor, pipeline| {
        let model = analytic("h100-8x8", tensor, pipeline).model().unwrap();
        let kind = StrategyKind::ulysses(Activations::Host);
        model.costs().kinds[&kind].host.unwrap()
    };
    let whole = host(1, 1);
    // Bytes are counted for all stages that a rank stands for; each device copies those of its own.
    assert!(whole.copy_s_per_token > 0.0);
    for pipeline in [2, 8] {
        let stage = host(1, pipeline);
        close(
            stage.copy_s_per_token * f64::from(pipeline),
            whole.copy_s_per_token * stage.bytes_per_token / whole.bytes_per_token,
        );
    }
}

#[test]
fn a_first_stage_holds_the_micro_batches_of_all_stages_where_little_else_is_held() {
    let architecture = "name = 'a'\nnum_layers = 8\nhidden = 512\nnum_heads = 8\nffn = 1408\nvocabulary = 8\n\
                        recomputation = 'none'";
    let bytes = |pipeline| {
        let architecture = lengthwise_cost::Architecture::from_toml(architecture).unwrap();
        let hardware = Hardware::named("h100-1x8").unwrap();
        let share = ModelShare::new(1, pipeline).unwrap();
        let analytic = AnalyticModel::new(architecture, hardware);
        analytic
            .with_share(share)
            .unwrap()
            .activation_bytes_per_token()
    };
    // All that is saved is the output's 16 bytes a word, which the first of several stages does not have.
    assert_eq!(bytes(1) - bytes(2), 8.0 * 16.0);
    assert_eq!(bytes(2), bytes(8));
}

#[test]
fn groups_of_fewer_ranks_with_more_devices_exchange_over_the_same_links() {
    // All 64 devices work on one sequence, as 64 ranks or as 16 of 4 devices, which exchange 1 / 4 of the heads each.
    let exchange = |model: &FittedModel, degree: u32| {
        let strategy = Strategy::ulysses(Degree::new(degree).unwrap(), Activations::Recompute);
        let span = Span::ManyNodes;
        model.exchange_s_per_token(GroupShape { strategy, span })
    };
    let model = |tensor| analytic("h100-8x8", tensor, 1).model().unwrap();
    let [whole, divided] = [exchange(&model(1), 32), exchange(&model(4), 8)];
    // 8 ranks of 4 devices on 4 nodes and 32 ranks on 4 nodes: the same part leaves the node, with 4 times fewer keys,
    // since 8 ranks have a key/value head each without copies: 8 + 2 heads of 32 / 4 against 32 + 32 of 32.
    let per_device = |heads: f64, members: f64| heads / members;
    close(
        divided / whole,
        per_device(8.0 + 8.0, 8.0) / per_device(64.0, 32.0),
    );
}

#[test]
fn a_rank_is_as_slow_as_the_slowest_device_it_stands_for() {
    let hardware = |unlike: &str| {
        let text = format!(
            "name = 'a'\nnum_nodes = 2\ndevices_per_node = 8\ndevice = {{ kind = 'h100-80' }}\n\
             nic = {{ per_node = 8, bandwidth_bytes_per_s = 50e9 }}\n{unlike}"
        );
        Hardware::from_toml(&text).unwrap()
    };
    let unlike = "[[other_devices]]\nranks = [3]\nspeed = 0.5\n[[other_devices]]\nranks = [14]\nspeed = 2.0\n\
                  [[other_devices]]\nranks = [8, 9]\nspeed = 0.25\nmemory_gib = 40";
    let architecture = ModelKind::Llama31With8B.architecture(65_536);
    let share = ModelShare::new(2, 2).unwrap();
    let analytic = AnalyticModel::new(architecture, hardware(unlike));
    let cluster = analytic.with_share(share).unwrap().cluster().unwrap();
    // Four ranks on the node of each of two stages: devices 0, 1, 8, 9; 2, 3, 10, 11; and so on.
    let speeds = cluster.devices().iter().map(|device| device.speed().get());
    assert_eq!(speeds.collect::<Vec<_>>(), [0.25, 0.5, 1.0, 1.0]);
    let memory = |rank| cluster.device(Rank(rank)).unwrap().memory();
    assert!(memory(0) < memory(1));
    assert_eq!(memory(1), memory(3));
}

#[test]
fn a_profile_of_a_share_gives_the_same_costs() {
    for (tensor, pipeline) in SHARES {
        let analytic = analytic("h100-8x8", tensor, pipeline);
        let text = analytic.profile(65_536).unwrap().to_toml().unwrap();
        let profile = Profile::from_toml(&text).unwrap();
        let cluster = profile.cluster(None).unwrap();
        // A profile knows nothing of hosts yet.
        let described = analytic.cluster().unwrap();
        assert_eq!(cluster.num_nodes(), described.num_nodes());
        let memory = |cluster: &Cluster| {
            let devices = cluster.devices().iter();
            devices.map(|device| device.memory()).collect::<Vec<_>>()
        };
        assert_eq!(memory(&cluster), memory(&described));
        let models = [profile.model(&cluster).unwrap(), analytic.model().unwrap()];
        for degree in [1, 2, 8] {
            let strategy = Strategy::ulysses(Degree::new(degree).unwrap(), Activations::Recompute);
            let span = Span::OneNode;
            let shape = GroupShape { strategy, span };
            let times = models.each_ref();
            let times = times.map(|model| model.sequence_time(shape, Tokens(20_000)).get());
            close(times[0], times[1]);
            let memory = models.each_ref();
            let memory = memory.map(|model| model.sequence_memory(strategy, Tokens(20_000)).0);
            assert!(memory[0].abs_diff(memory[1]) <= 1);
        }
    }
}

#[test]
fn what_can_not_be_divided_is_named_with_the_rule_it_breaks() {
    let mut told = String::new();
    for (model, cluster, tensor, pipeline) in [
        (ModelKind::Llama31With8B, "h100-8x8", 0, 1),
        (ModelKind::Llama31With8B, "h100-8x8", 1, 0),
        (ModelKind::Llama31With8B, "h100-8x8", 70_000, 70_000),
        (ModelKind::Llama31With8B, "h100-8x8", 3, 1),
        (ModelKind::Llama31With8B, "h100-8x8", 16, 1),
        (ModelKind::Llama2With7B, "h100-8x8", 16, 1),
        (ModelKind::Llama31With8B, "h100-2x6", 4, 1),
        (ModelKind::Llama31With8B, "h100-8x8", 1, 3),
        (ModelKind::Llama31With8B, "h100-3x2", 2, 2),
        (ModelKind::Llama31With8B, "h100-1x8", 8, 2),
    ] {
        let architecture = model.architecture(65_536);
        let whole = AnalyticModel::new(architecture, Hardware::named(cluster).unwrap());
        let divided = ModelShare::new(tensor, pipeline).and_then(|share| whole.with_share(share));
        let _ = writeln!(told, "{}", divided.unwrap_err());
    }
    insta::assert_snapshot!(told, @r"
    tensor_parallel is 0; it must be at least 1
    pipeline_parallel is 0; it must be at least 1
    tensor_parallel is 70000; with pipeline_parallel = 70000 that is too many
    tensor_parallel is 3; it must divide num_heads = 32
    tensor_parallel is 16; it must divide num_kv_heads = 8
    tensor_parallel is 16; it must divide devices_per_node = 8
    tensor_parallel is 4; it must divide devices_per_node = 6
    pipeline_parallel is 3; it must divide num_layers = 32
    num_devices is 6; it must be a multiple of tensor_parallel x pipeline_parallel = 2 x 2 = 4
    num_devices is 8; it must be a multiple of tensor_parallel x pipeline_parallel = 8 x 2 = 16
    ");
}
