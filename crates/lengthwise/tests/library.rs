//! The command as a library: what it prints goes where the caller says.

mod session;

use lengthwise::{Exit, Output};
use session::{EASY_PROFILE, Session};

/// Runs a command in this process.
fn run(words: &[&str]) -> (Exit, String, String) {
    let (mut results, mut notes) = (Vec::new(), Vec::new());
    let words = [&["lengthwise"], words].concat();
    let exit = lengthwise::run(words, &mut Output::new(&mut results, &mut notes));
    let [results, notes] = [results, notes].map(|text| String::from_utf8(text).unwrap());
    (exit, results, notes)
}

#[test]
fn results_notes_and_the_exit_are_those_of_the_process() {
    let session = Session::new();
    session.file("profile.toml", EASY_PROFILE);
    session.file("lengths.txt", "4000\n1000\n");
    session.file("no-lengths.txt", "4e3\n");
    let path = |name: &str| session.directory().join(name).display().to_string();
    let [profile, good, bad] = ["profile.toml", "lengths.txt", "no-lengths.txt"].map(path);
    let commands: [(&[&str], Exit); 5] = [
        (
            &[
                "plan",
                "--lengths",
                &good,
                "--profile",
                &profile,
                "--planner",
                "static:2",
                "--json",
            ],
            Exit::Done,
        ),
        (
            &["plan", "--lengths", &bad, "--profile", &profile],
            Exit::BadInput,
        ),
        (&["plan", "--lengths", &good], Exit::BadInput),
        (&["plan", "--help"], Exit::Done),
        (
            &["simulate", "--lengths", &good, "--profile", &profile],
            Exit::Done,
        ),
    ];
    for (words, expected) in commands {
        let (exit, results, notes) = run(words);
        let process = session.output(&words.join(" "), b"");
        assert_eq!(exit, expected, "{words:?}: {notes}");
        assert_eq!(process.status.code(), Some(exit as i32));
        // How long planning took differs from run to run.
        let untimed = |text: &str| text.split(r#""solve_s":"#).next().unwrap().to_owned();
        let printed = String::from_utf8(process.stdout).unwrap();
        assert_eq!(untimed(&results), untimed(&printed));
        assert_eq!(notes, String::from_utf8(process.stderr).unwrap());
    }
}
