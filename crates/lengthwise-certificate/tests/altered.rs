//! What was changed in a certificate is refused with the reason, unless it is still true.
//!
//! `data/tree.json` is a plan of ten sequences with a bound by a tree, `data/patterns.json` one of 510 with a bound by patterns.
//! `data/one_micro_batch.json` is one of eight on two devices, none of which could take both that are kept and that are not.

use lengthwise_certificate::{Certificate, Refusal, Verified, verify};
use serde_json::{Value, json};

const TREE: &str = include_str!("data/tree.json");
const PATTERNS: &str = include_str!("data/patterns.json");
const ONE_MICRO_BATCH: &str = include_str!("data/one_micro_batch.json");

fn check(certificate: &Value) -> Result<Verified, Refusal> {
    verify(&Certificate::parse(certificate.to_string().as_bytes())?)
}

/// A certificate with one change.
fn changed(text: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut certificate: Value = serde_json::from_str(text).unwrap();
    change(&mut certificate);
    certificate
}

fn scale(number: &mut Value, factor: f64) {
    *number = json!(number.as_f64().unwrap() * factor);
}

fn leaves(certificate: &mut Value) -> &mut Vec<Value> {
    certificate["proof"]["tree"]["leaves"]
        .as_array_mut()
        .unwrap()
}

fn one_micro_batch(certificate: &mut Value) -> &mut Value {
    &mut certificate["proof"]["tree"]["one_micro_batch"]
}

fn buckets(certificate: &mut Value) -> &mut Vec<Value> {
    certificate["proof"]["patterns"]["buckets"]
        .as_array_mut()
        .unwrap()
}

fn sequences(certificate: &mut Value, micro_batch: usize) -> &mut Vec<Value> {
    let sequences =
        &mut certificate["plan"]["micro_batches"][micro_batch]["groups"][0]["sequences"];
    sequences.as_array_mut().unwrap()
}

#[test]
fn unchanged_certificates_hold() {
    let verified = check(&changed(TREE, |_| ())).unwrap();
    assert_eq!(
        (
            verified.num_leaves,
            verified.num_sequences,
            verified.num_devices
        ),
        (34, 10, 8)
    );
    assert!(verified.recomputed.get() >= verified.bound.get() * (1.0 - 1e-9));
    assert!(verified.recomputed.get() <= verified.bound.get() * (1.0 + 1e-6));
    let verified = check(&changed(PATTERNS, |_| ())).unwrap();
    assert!(verified.gap().unwrap() < 0.02);
    let verified = check(&changed(ONE_MICRO_BATCH, |_| ())).unwrap();
    assert_eq!(verified.num_leaves, 2);
    assert!(verified.gap().unwrap() < 1e-7);
}

#[test]
fn every_leaf_is_needed() {
    let num_leaves = leaves(&mut changed(TREE, |_| ())).len();
    for leaf in 0..num_leaves {
        let without = changed(TREE, |it| drop(leaves(it).remove(leaf)));
        let refusal = check(&without).unwrap_err();
        assert!(
            matches!(refusal, Refusal::NotCovered { .. }),
            "{leaf}: {refusal}"
        );
    }
}

#[test]
fn what_is_still_true_holds() {
    let holds = |certificate: Value| check(&certificate).unwrap();
    holds(changed(TREE, |it| scale(&mut it["bound_s"], 0.9)));
    holds(changed(ONE_MICRO_BATCH, |it| {
        it["bound_s"] = json!(8.0);
        scale(&mut one_micro_batch(it)["makespan_s"], 0.9);
    }));
    // Any part of the devices that keep is enough, as they are many.
    holds(changed(ONE_MICRO_BATCH, |it| {
        one_micro_batch(it)["time_parts"][0] = json!(0.7);
    }));
    // All leaves prove as much of plans that take longer than the one that was known.
    holds(changed(TREE, |it| {
        scale(&mut it["proof"]["tree"]["limit_s"], 100.0)
    }));
    // The order of leaves says nothing, and more leaves than are needed do no harm.
    holds(changed(TREE, |it| leaves(it).reverse()));
    let more = json!({"num_micro_batches": 9, "time_prices": [0.0], "capacity_prices": [0.0]});
    assert_eq!(
        holds(changed(TREE, |it| leaves(it).push(more))).num_leaves,
        34
    );
    // Prices of 0 prove the least there is, which does for what is decided to take that long.
    let zero = |it: &mut Value| {
        it["bound_s"] = json!(0.9);
        for leaf in leaves(it) {
            for key in ["time_prices", "capacity_prices"] {
                leaf[key].as_array_mut().unwrap().fill(json!(0.0));
            }
        }
    };
    holds(changed(TREE, zero));
    // Sequences may change places where that takes no longer.
    holds(changed(TREE, |it| {
        let moved = sequences(it, 0).pop().unwrap();
        sequences(it, 1).push(moved);
    }));
    holds(changed(PATTERNS, |it| {
        scale(&mut buckets(it)[3]["price_s"], 1.0 - 1e-12)
    }));
}

#[test]
fn what_was_changed_is_refused_with_the_reason() {
    type Change = fn(&mut Value);
    let of_tree: &[(&str, Change)] = &[
        ("a bound raised by 1 %", |it| {
            scale(&mut it["bound_s"], 1.01)
        }),
        ("a bound above the plan", |it| {
            scale(&mut it["bound_s"], 2.0)
        }),
        ("a bound that is none", |it| it["bound_s"] = json!(-1.0)),
        ("a leaf dropped", |it| drop(leaves(it).remove(7))),
        ("the leaf of more micro-batches dropped", |it| {
            drop(leaves(it).remove(0))
        }),
        ("no leaf", |it| leaves(it).clear()),
        ("a leaf twice", |it| {
            let first = leaves(it)[0].clone();
            leaves(it).push(first);
        }),
        ("a price raised", |it| {
            scale(&mut leaves(it)[2]["time_prices"][1], 10.0)
        }),
        ("a price below 0", |it| {
            leaves(it)[2]["time_prices"][1] = json!(-0.1)
        }),
        ("a price beyond all numbers", |it| {
            leaves(it)[2]["capacity_prices"][0] = json!(1e300)
        }),
        ("a price so high that sums lose their digits", |it| {
            leaves(it)[0]["time_prices"][0] = json!(1e90);
        }),
        ("a price too few", |it| {
            leaves(it)[2]["time_prices"].as_array_mut().unwrap().pop();
        }),
        ("a price of any number of micro-batches", |it| {
            leaves(it)[0]["capacity_prices"][0] = json!(0.1);
        }),
        ("a leaf of no micro-batch", |it| {
            leaves(it)[0]["num_micro_batches"] = json!(0)
        }),
        ("a leaf of more micro-batches than there must be", |it| {
            leaves(it)[0]["num_micro_batches"] = json!(4);
        }),
        ("decisions without a number of micro-batches", |it| {
            leaves(it)[1]["or_more"] = json!(true)
        }),
        ("a decision that is none", |it| {
            leaves(it)[1]["decisions"] = json!([{"open": {"micro_batch": 0, "shape": 99}}]);
        }),
        ("65 decisions", |it| {
            leaves(it)[1]["decisions"] = json!(vec![json!({"join": 0}); 65])
        }),
        ("another capacity", |it| {
            it["proof"]["tree"]["capacity"] = json!("tokens")
        }),
        ("a sequence lost", |it| drop(sequences(it, 0).pop())),
        ("a length changed", |it| {
            it["plan"]["seq_lens_tokens"][9] = json!(501)
        }),
        ("a length changed to another one", |it| {
            it["plan"]["seq_lens_tokens"][1] = json!(8000)
        }),
        ("a length of 0", |it| {
            it["plan"]["seq_lens_tokens"][9] = json!(0)
        }),
        ("an overhead changed", |it| {
            scale(&mut it["problem"]["micro_batch_overhead_s"], 0.9)
        }),
        ("an overhead below 0", |it| {
            it["problem"]["micro_batch_overhead_s"] = json!(-0.5)
        }),
        ("the times of the plan's shape lowered", |it| {
            scale(&mut it["problem"]["shapes"][5]["seconds"][6], 0.9);
        }),
        ("the times of another shape lowered", |it| {
            for seconds in it["problem"]["shapes"][0]["seconds"]
                .as_array_mut()
                .unwrap()
            {
                scale(seconds, 0.01);
            }
        }),
        ("times that fall with length", |it| {
            it["problem"]["shapes"][2]["seconds"][4] = json!(0.0)
        }),
        ("memory that falls with length", |it| {
            it["problem"]["shapes"][2]["bytes"][4] = json!(0)
        }),
        ("a time too few", |it| {
            it["problem"]["shapes"][2]["seconds"]
                .as_array_mut()
                .unwrap()
                .pop();
        }),
        ("a shape removed", |it| {
            it["problem"]["shapes"].as_array_mut().unwrap().remove(4);
        }),
        ("a shape twice", |it| {
            let first = it["problem"]["shapes"][0].clone();
            it["problem"]["shapes"].as_array_mut().unwrap().push(first);
        }),
        ("no shapes", |it| it["problem"]["shapes"] = json!([])),
        ("a device removed", |it| {
            it["problem"]["nodes"][0]["devices"][0]["count"] = json!(3)
        }),
        ("more memory", |it| {
            it["problem"]["nodes"][0]["devices"][0]["budget_bytes"] = json!(1u64 << 34)
        }),
        ("a slower device", |it| {
            it["problem"]["nodes"][0]["devices"][0]["speed"] = json!(0.5)
        }),
        ("a device of no speed", |it| {
            it["problem"]["nodes"][0]["devices"][0]["speed"] = json!(0.0)
        }),
        ("a speed beyond sense", |it| {
            it["problem"]["nodes"][0]["devices"][0]["speed"] = json!(1e300)
        }),
        ("more devices than there can be", |it| {
            it["problem"]["nodes"][0]["count"] = json!(4_000_000_000u32)
        }),
        ("a rule that the plan breaks", |it| {
            it["problem"]["rules"] = json!({"max_sequences_per_group": 2});
        }),
        ("a later version", |it| it["version"] = json!(2)),
        ("a key that is not known", |it| it["nodes"] = json!([])),
        ("no proof", |it| it["proof"] = json!({})),
    ];
    let of_patterns: &[(&str, Change)] = &[
        ("a bound raised by 1 %", |it| {
            scale(&mut it["bound_s"], 1.01)
        }),
        ("a price raised", |it| {
            scale(&mut buckets(it)[3]["price_s"], 1.1)
        }),
        ("a price lowered", |it| {
            scale(&mut buckets(it)[3]["price_s"], 0.9)
        }),
        ("a price below 0", |it| {
            buckets(it)[3]["price_s"] = json!(-0.1)
        }),
        ("a price beyond all numbers", |it| {
            buckets(it)[3]["price_s"] = json!(1e300)
        }),
        ("the first bucket dropped", |it| drop(buckets(it).remove(0))),
        ("a sequence moved", |it| {
            let groups = it["plan"]["micro_batches"][0]["groups"]
                .as_array_mut()
                .unwrap();
            let moved = groups[0]["sequences"]
                .as_array_mut()
                .unwrap()
                .pop()
                .unwrap();
            groups[1]["sequences"].as_array_mut().unwrap().push(moved);
        }),
        ("all buckets but the first dropped", |it| {
            buckets(it).truncate(1)
        }),
        ("no buckets", |it| buckets(it).clear()),
        ("buckets in no order", |it| buckets(it).swap(1, 2)),
        ("a bucket of a length that is not there", |it| {
            buckets(it)[1]["from_tokens"] = json!(4999)
        }),
        ("no overhead", |it| {
            it["problem"]["micro_batch_overhead_s"] = json!(0.0)
        }),
    ];
    let of_one_micro_batch: &[(&str, Change)] = &[
        ("a bound raised", |it| it["bound_s"] = json!(8.99999999)),
        ("a makespan raised", |it| {
            one_micro_batch(it)["makespan_s"] = json!(6.0)
        }),
        ("a makespan lowered", |it| {
            one_micro_batch(it)["makespan_s"] = json!(5.9)
        }),
        ("a makespan of 0", |it| {
            one_micro_batch(it)["makespan_s"] = json!(0.0)
        }),
        ("a part changed", |it| {
            one_micro_batch(it)["time_parts"][1] = json!(0.9)
        }),
        ("a part below 0", |it| {
            one_micro_batch(it)["time_parts"][0] = json!(-1.0)
        }),
        ("a part above 1", |it| {
            one_micro_batch(it)["time_parts"][0] = json!(1.5)
        }),
        ("a part too few", |it| {
            drop(
                one_micro_batch(it)["time_parts"]
                    .as_array_mut()
                    .unwrap()
                    .pop(),
            )
        }),
        ("one micro-batch left out", |it| {
            *one_micro_batch(it) = Value::Null
        }),
        ("more micro-batches left out", |it| leaves(it).clear()),
        ("a device more", |it| {
            it["problem"]["nodes"][0]["devices"][0]["count"] = json!(3)
        }),
        ("a faster device", |it| {
            it["problem"]["nodes"][0]["devices"] = json!([
                {"count": 1, "budget_bytes": 1_000_000, "speed": 1.0},
                {"count": 1, "budget_bytes": 1_000_000, "speed": 1.01}
            ])
        }),
        ("more memory", |it| {
            it["problem"]["nodes"][0]["devices"][0]["budget_bytes"] = json!(2_100_000)
        }),
    ];
    let mut transcript = String::new();
    let all = [
        (TREE, of_tree),
        (PATTERNS, of_patterns),
        (ONE_MICRO_BATCH, of_one_micro_batch),
    ];
    for (text, changes) in all {
        for (what, change) in changes {
            let refusal = match check(&changed(text, change)) {
                Ok(_) => "not refused".to_owned(),
                Err(refusal) => refusal.to_string(),
            };
            transcript += &format!("{what}\n  {refusal}\n");
        }
    }
    assert!(!transcript.contains("not refused"), "{transcript}");
    insta::assert_snapshot!(transcript);
}

#[test]
fn what_is_no_json_is_refused() {
    for text in ["", "[]", "{", "{\"version\": 1}", "\u{feff}{}"] {
        let refusal = Certificate::parse(text.as_bytes()).unwrap_err();
        assert!(
            refusal
                .to_string()
                .starts_with("it is no certificate in JSON: "),
            "{refusal}"
        );
        assert!(refusal.hint().is_some());
    }
}

/// Texts with bytes changed, removed and doubled, always the same.
fn mangled(text: &str, num: usize) -> impl Iterator<Item = Vec<u8>> {
    let mut state: u64 = 1;
    let mut below = move |bound: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    (0..num).map(move |_| {
        let mut bytes = text.as_bytes().to_vec();
        for _ in 0..=below(3) {
            let at = below(bytes.len());
            match below(4) {
                0 => bytes[at] = b"0123456789-.eE,[]{}"[below(19)],
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, b"0123456789"[below(10)]),
                _ => bytes.insert(at, bytes[at]),
            }
        }
        bytes
    })
}

#[test]
fn nothing_that_is_read_ends_the_checker() {
    let (mut num_read, mut num_verified) = (0, 0);
    for bytes in mangled(TREE, 2000).chain(mangled(PATTERNS, 200)) {
        let Ok(certificate) = Certificate::parse(&bytes) else {
            continue;
        };
        num_read += 1;
        if let Ok(verified) = verify(&certificate) {
            num_verified += 1;
            assert!(verified.bound.get() <= verified.plan_step.get() * (1.0 + 1e-9));
        }
    }
    // Both happen often: most digits of a price may be others.
    assert!(
        num_read > 100 && num_verified > 50,
        "{num_read} read, {num_verified} verified"
    );
}
