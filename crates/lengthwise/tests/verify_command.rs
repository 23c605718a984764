//! `lengthwise plan --certificate` and `lengthwise verify` as users call them.

#![allow(clippy::disallowed_methods, reason = "tests write what commands read")]

mod session;

use std::fs;

use session::{EASY_PROFILE, Session, example};

/// A session with a profile, lengths that are searched and lengths that are enumerated.
fn session() -> Session {
    let session = Session::new();
    session.file("profile.toml", EASY_PROFILE);
    session.file("other.toml", EASY_PROFILE.replace("1e-4", "2e-4"));
    session.file(
        "lengths.txt",
        "40000\n12000\n12000\n8000\n4000\n2000\n1000\n500\n500\n500\n",
    );
    session
}

const PLAN: &str =
    "plan --lengths lengths.txt --profile profile.toml --degrees 1,2,4,8 --planner static";

/// The certificate of that plan, with one text in the place of another.
fn altered(session: &Session, name: &str, from: &str, to: &str) {
    let text = fs::read_to_string(session.directory().join("certificate.json")).unwrap();
    assert!(text.contains(from), "{from} in {text}");
    session.file(name, text.replacen(from, to, 1));
}

#[test]
fn certificates_are_written_and_verified() {
    let mut session = session();
    session.run(&format!("{PLAN} --certificate certificate.json"));
    session.run("verify certificate.json");
    session.run("verify certificate.json --profile profile.toml");
    session.run(&format!(
        "{PLAN} --certificate ruled.json --min-degree 2 --max-sequences-per-group 8"
    ));
    session.run("verify ruled.json");
    session.run(&format!(
        "{} --max-communicators 2 --certificate few.json",
        PLAN.replace("static", "adaptive")
    ));
    session.run("verify few.json --profile profile.toml --degrees 1,2,4,8");
    session.note("it replaces a file that is there");
    session.file("ruled.json", "old");
    session.run(&format!("{PLAN} --certificate ruled.json"));
    session.run("verify ruled.json");
    let left: Vec<_> = fs::read_dir(session.directory())
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    assert!(
        left.iter()
            .all(|name| !name.to_string_lossy().ends_with(".part")),
        "{left:?}"
    );
    insta::assert_snapshot!(session.transcript());
}

#[test]
fn what_does_not_hold_is_refused_with_the_reason() {
    let mut session = session();
    session.run(&format!("{PLAN} --certificate certificate.json"));
    altered(
        &session,
        "overhead.json",
        "\"micro_batch_overhead_s\":0.5",
        "\"micro_batch_overhead_s\":0.4",
    );
    altered(
        &session,
        "length.json",
        "\"seq_lens_tokens\":[40000",
        "\"seq_lens_tokens\":[39000",
    );
    altered(
        &session,
        "plan.json",
        "\"sequences\":[0,",
        "\"sequences\":[0,0,",
    );
    altered(&session, "device.json", "\"count\":4", "\"count\":3");
    altered(
        &session,
        "price.json",
        "\"time_prices\":[0.",
        "\"time_prices\":[-0.",
    );
    altered(&session, "version.json", "\"version\":1", "\"version\":2");
    altered(
        &session,
        "key.json",
        "\"version\":1",
        "\"version\":1,\"proved\":true",
    );
    for name in [
        "overhead", "length", "plan", "device", "price", "version", "key",
    ] {
        session.run(&format!("verify {name}.json"));
    }
    session.note("costs of another model, and of fewer devices");
    session.run("verify certificate.json --profile other.toml");
    session.run("verify certificate.json --profile profile.toml --devices 4");
    session.run("verify lengths.txt");
    insta::assert_snapshot!(session.transcript());
}

#[cfg(unix)] // The system's own texts are in the messages.
#[test]
fn places_that_no_certificate_can_go_to_are_named() {
    let mut session = session();
    session.run(&format!("{PLAN} --certificate lengths.txt"));
    session.run(&format!("{PLAN} --certificate ./profile.toml"));
    session.run(&format!("{PLAN} --certificate corpus"));
    session.run(&format!("{PLAN} --certificate nowhere/certificate.json"));
    session.run("verify nowhere.json");
    session.run("verify");
    let lengths = fs::read_to_string(session.directory().join("lengths.txt")).unwrap();
    assert!(lengths.starts_with("40000\n"));
    insta::assert_snapshot!(session.transcript());
}

#[test]
fn plans_as_json_stay_alone_on_stdout() {
    let session = session();
    let output = session.output(
        &format!("{PLAN} --json --certificate certificate.json"),
        b"",
    );
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let certificate = fs::read(session.directory().join("certificate.json")).unwrap();
    let certificate: serde_json::Value = serde_json::from_slice(&certificate).unwrap();
    assert_eq!(certificate["bound_s"], plan["lower_bound_s"]);
    assert_eq!(certificate["plan_step_s"], plan["predicted_step_s"]);
    // The plan in it is one that other commands read.
    session.file("plan.json", certificate["plan"].to_string());
    let simulated = session.output("simulate plan.json --profile profile.toml", b"");
    assert_eq!(simulated.status.code(), Some(0));
}

#[test]
fn recorded_batches_are_verified() {
    let session = Session::new();
    let batches = fs::read_dir(example("batches")).unwrap();
    let mut num = 0;
    for batch in batches
        .map(|batch| batch.unwrap().path())
        .filter(|path| path.is_file())
    {
        let model = if batch.to_string_lossy().contains("_13b_") {
            "13b"
        } else {
            "7b"
        };
        let profile = example(&format!("profiles/a100-gpt-{model}-384k.toml"));
        let (batch, profile) = (batch.display(), profile.display());
        let planned = session.output(
            &format!("plan --lengths {batch} --profile {profile} --certificate certificate.json"),
            b"",
        );
        assert_eq!(planned.status.code(), Some(0), "{batch}");
        let verified = session.output(&format!("verify certificate.json --profile {profile}"), b"");
        assert_eq!(verified.status.code(), Some(0), "{batch}: {verified:?}");
        num += 1;
    }
    assert!(num >= 6);
}
