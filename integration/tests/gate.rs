//! No phase of a micro-VM's life takes more instructions than it did.
//!
//! `UPDATE_GATE=1` stores the counts instead (`make gate-update`).

use integration::gate::{self, FLOORS, ISOLATION_MAX, SLOWER, UPDATE, Verdict};
use integration::say;

#[test]
fn no_phase_takes_more_instructions_than_the_stored_count() {
    say("counting instructions on an emulated AMD host");
    let mut counted = gate::count().unwrap();
    let slower = counted.remove(SLOWER).unwrap();
    if std::env::var_os("UPDATE_GATE").is_some_and(|value| value == "1") {
        gate::store(&counted).unwrap();
        println!("stored in {}", gate::file().display());
    }

    let stored = gate::stored().unwrap();
    let compared = gate::compare(&stored, &counted);
    let table: String = compared.iter().map(|phase| format!("  {phase}\n")).collect();
    println!("{:46} {:>12} {:>12} {:>10}\n{table}", "instructions", "stored", "counted", "change");
    let failed = compared.iter().any(|it| matches!(it.verdict, Verdict::Worse | Verdict::Unknown));
    assert!(!failed, "see the table; `{UPDATE}` stores the counts of this tree:\n{table}");

    let isolation = gate::isolation(&counted).unwrap();
    println!("isolation=request takes {isolation} instructions more than isolation=none");
    assert!(isolation < ISOLATION_MAX, "{isolation} of at most {ISOLATION_MAX}:\n{table}");

    // The same comparison has to notice 5 % more.
    let mut with_more = stored.clone();
    with_more.insert(FLOORS[1].to_owned(), slower);
    let compared = gate::compare(&stored, &with_more);
    let noticed = compared.iter().find(|it| it.phase == FLOORS[1]).unwrap();
    assert_eq!(noticed.verdict, Verdict::Worse, "5 % more went unnoticed: {noticed}");
}
