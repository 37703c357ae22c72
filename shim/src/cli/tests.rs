use std::path::Path;

use clap::CommandFactory;

use super::*;
use crate::compile::Job;

fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(["hyperlight"].iter().chain(args))
}

#[test]
fn the_definition_of_the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn arguments_behind_the_file_are_the_programs_with_or_without_dashes() {
    for args in [&["run", "a.wasm", "--", "-x", "y"][..], &["run", "a.wasm", "-x", "y"]] {
        let cli = parse(args).unwrap();
        let text = format!("{cli:?}");
        assert!(text.contains(r#"args: ["-x", "y"]"#), "{text}");
    }
}

#[test]
fn a_second_pair_of_dashes_is_the_programs() {
    let text = format!("{:?}", parse(&["run", "a.wasm", "--", "a", "--", "b"]).unwrap());
    assert!(text.contains(r#"args: ["a", "--", "b"]"#), "{text}");
}

#[test]
fn every_subcommand_that_takes_a_file_shows_examples() {
    for subcommand in ["run", "compile", "inspect", "cache"] {
        let help = parse(&[subcommand, "--help"]).unwrap_err().to_string();
        assert!(help.contains("Examples:"), "{help}");
    }
}

#[test]
fn a_bad_value_names_the_option_and_the_form() {
    let error = parse(&["run", "--memory", "lots", "a.wasm"]).unwrap_err().to_string();
    assert!(error.contains("--memory") && error.contains("256MiB"), "{error}");
    let error = parse(&["run", "--timeout", "soon", "a.wasm"]).unwrap_err().to_string();
    assert!(error.contains("--timeout") && error.contains("30s"), "{error}");
}

#[test]
fn a_missing_file_is_127_and_a_refused_one_126() {
    let missing = Wasm::open(Path::new("/nonexistent.wasm")).unwrap_err();
    assert_eq!(CliError::from(missing).status(), 127);
    let refused = CliError::compile("a".into(), crate::compile::Refusal::Empty.into());
    assert_eq!(refused.status(), 126);
    assert_eq!(
        CliError::compile("a".into(), CompileError::TooLong(Job::Compile, Job::Compile.limits()))
            .status(),
        126
    );
    assert_eq!(CliError::compile("a".into(), CompileError::Changed).status(), 125);
}

#[test]
fn arguments_need_no_dashes_before_them() {
    let text = format!("{:?}", parse(&["run", "app.wasm", "a", "b", "-c", "--json"]).unwrap());
    assert!(text.contains(r#"args: ["a", "b", "-c", "--json"]"#), "{text}");
}

#[test]
fn a_call_is_one_argument_before_the_file() {
    let cli = parse(&["run", "--invoke", "add(1, 2)", "--argv0", "sum", "a.wasm"]).unwrap();
    let text = format!("{cli:?}");
    assert!(text.contains(r#"invoke: Some("add(1, 2)"), argv0: Some("sum")"#), "{text}");
    let cli = parse(&["run", "--invoke", "add", "a.wasm", "--", "1", "-2"]).unwrap();
    assert!(format!("{cli:?}").contains(r#"args: ["1", "-2"]"#), "{cli:?}");
}

#[test]
fn a_call_of_nothing_is_refused() {
    let error = parse(&["run", "--invoke", "", "a.wasm"]).unwrap_err().to_string();
    assert!(error.contains("--invoke"), "{error}");
}

#[test]
fn the_help_of_run_names_each_option() {
    let help = parse(&["run", "--help"]).unwrap_err().to_string();
    for option in ["--env", "--dir", "--invoke", "--argv0", "--memory", "--timeout", "--stats"] {
        assert!(help.contains(option), "{help}");
    }
}
