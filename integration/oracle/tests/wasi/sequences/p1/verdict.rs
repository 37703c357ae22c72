//! Differences that are meant, with their reasons.

use super::{Answer, Call, Verdict};

pub(super) fn judge(call: &Call, ours: &Answer<u16>, theirs: &Answer<u16>) -> Verdict {
    if ours == theirs { return Verdict::Same }
    let short = |a: &Answer<u16>| match a { Answer::Error(e) => format!("E{e}"), Answer::Gave(_) => "ok".into(), Answer::Skipped => "skip".into() };
    let name = format!("{call:?}"); let name = name.split(' ').next().unwrap_or_default().to_owned();
    println!("DIFF {name} {} {} | {call:?} | {ours:?} | {theirs:?}", short(ours), short(theirs));
    Verdict::Parted
}
