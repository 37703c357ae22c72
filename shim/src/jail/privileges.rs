//! Who a locked process is, and what it may do by that: nothing.
//!
//! Rule: the process gets ids of its own, which own no file and no other process, and no
//! capability in any set, for good. Only the ids by which the kernel decides about files (`fsuid` and
//! `fsgid`, credentials(7)) are those of the user that the container names, so that files belong to whom
//! people expect and `root` in a container can use what root owns there. What a user may not do by
//! ownership and mode bits it may not do: there is no `CAP_DAC_OVERRIDE`, as under `capabilities: drop:
//! [ALL]`. System calls that would change any of this are not in the list ([`super::syscalls`]).

use std::io;

use nix::unistd::{setfsgid, setfsuid};
use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit, umask,
};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};
use serde::{Deserialize, Serialize};

/// First of the ids that are nobody's: systemd (uid-gid table) and useradd leave 1879048192 and above free.
/// A process id, which is less than 2²² (proc(5), `pid_max`), is added.
const OWN_ID_FIRST: u32 = 0x7000_0000;

/// The id of nobody, where a user namespace of the host has no others.
const NOBODY: u32 = 65534;

/// Whose files a container uses (`process.user` of the OCI runtime specification).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// More groups.
    pub groups: Vec<u32>,
    /// Permissions that files do not get when they are made; 0o022 if nobody says.
    pub umask: Option<u32>,
}

/// A limit of setrlimit(2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceLimit {
    /// What is limited: `RLIMIT_NOFILE`.
    pub name: String,
    /// The limit in force.
    pub soft: u64,
    /// The highest that it could be.
    pub hard: u64,
}

impl ResourceLimit {
    /// Sets it.
    ///
    /// # Errors
    ///
    /// There is no such limit, or it would have to be raised and must not.
    pub(super) fn set(&self) -> io::Result<()> {
        let resource = resource(&self.name).ok_or(Errno::INVAL)?;
        // `RLIM_INFINITY` is the largest number there is.
        let [current, maximum] = [self.soft, self.hard].map(|n| (n != u64::MAX).then_some(n));
        Ok(setrlimit(resource, Rlimit { current, maximum })?)
    }
}

/// The limit that the OCI runtime specification calls `name`.
fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "RLIMIT_AS" => Resource::As,
        "RLIMIT_CORE" => Resource::Core,
        "RLIMIT_CPU" => Resource::Cpu,
        "RLIMIT_DATA" => Resource::Data,
        "RLIMIT_FSIZE" => Resource::Fsize,
        "RLIMIT_LOCKS" => Resource::Locks,
        "RLIMIT_MEMLOCK" => Resource::Memlock,
        "RLIMIT_MSGQUEUE" => Resource::Msgqueue,
        "RLIMIT_NICE" => Resource::Nice,
        "RLIMIT_NOFILE" => Resource::Nofile,
        "RLIMIT_NPROC" => Resource::Nproc,
        "RLIMIT_RSS" => Resource::Rss,
        "RLIMIT_RTPRIO" => Resource::Rtprio,
        "RLIMIT_RTTIME" => Resource::Rttime,
        "RLIMIT_SIGPENDING" => Resource::Sigpending,
        "RLIMIT_STACK" => Resource::Stack,
        _ => return None,
    })
}

/// Has no memory written to a file when the process crashes, and none read by others while it lives
/// (prctl(2), `PR_SET_DUMPABLE`).
pub(super) fn keep_memory_private() -> io::Result<()> {
    let maximum = getrlimit(Resource::Core).maximum.map(|_| 0);
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: maximum.or(Some(0)) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// At most so many threads. It counts for one user id, so there must be no other process of it.
fn limit_threads(threads: u64) -> io::Result<()> {
    let limit = |now: Option<u64>| Some(now.map_or(threads, |now| now.min(threads)));
    let Rlimit { current, maximum } = getrlimit(Resource::Nproc);
    let limit = Rlimit { current: limit(current), maximum: limit(maximum) };
    Ok(setrlimit(Resource::Nproc, limit)?)
}

/// Becomes a user of its own, who uses files as `user`, without any capability and with at most so many
/// `threads`. `pid` is the process' id in the initial namespace: nobody else has it.
pub(super) fn become_nobody(user: &User, pid: u32, threads: u64) -> io::Result<()> {
    umask(Mode::from_raw_mode(user.umask.unwrap_or(0o022) & 0o777));
    forbid_regaining()?;
    let groups: Vec<_> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    set_thread_groups(&groups)?;
    match set_ids(OWN_ID_FIRST.saturating_add(pid)) {
        Err(Errno::INVAL) => set_ids(NOBODY)?,
        set => {
            set?;
            limit_threads(threads)?;
        }
    }
    // They say what was before, and nothing else: so they are asked twice.
    let (uid, gid) = (nix::unistd::Uid::from_raw(user.uid), nix::unistd::Gid::from_raw(user.gid));
    setfsgid(gid);
    setfsuid(uid);
    if setfsgid(gid) != gid || setfsuid(uid) != uid {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let none = CapabilitySet::empty();
    Ok(set_capabilities(
        None,
        CapabilitySets { effective: none, permitted: none, inheritable: none },
    )?)
}

/// Gives up every capability but those by which root uses files of others and the ports below 1024.
pub(super) fn keep_file_capabilities() -> io::Result<()> {
    let kept = CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::FOWNER
        | CapabilitySet::FSETID
        | CapabilitySet::NET_BIND_SERVICE;
    let now = rustix::thread::capabilities(None)?;
    let (effective, permitted) = (now.effective & kept, now.permitted & kept);
    let inheritable = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective, permitted, inheritable })?)
}

/// No capability comes back: not by an exec of root's, not by a change of ids, not from any set.
fn forbid_regaining() -> Result<(), Errno> {
    clear_ambient_capability_set()?;
    for capability in 0..64 {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << capability))
        {
            Err(Errno::INVAL) => break, // behind the kernel's last
            removed => removed?,
        }
    }
    set_capabilities_secure_bits(
        CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_SETUID_FIXUP
            | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
            | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED,
    )
}

fn set_ids(id: u32) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}
