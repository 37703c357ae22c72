//! Micro-VMs as the kernel shows them: a process holds a descriptor of KVM's for the virtual machine
//! and one for each vCPU (KVM API, 4.2 KVM_CREATE_VM and 4.7 KVM_CREATE_VCPU).

use std::fs;

use crate::leaks;

/// A process below this one that has a KVM virtual machine.
#[derive(Clone, Debug)]
pub struct MicroVm {
    /// Process id.
    pub pid: i32,
    /// File name of the program that it runs.
    pub program: String,
    /// Number of its vCPUs.
    pub vcpus: usize,
    /// Its cgroup in the hierarchy of the `memory` controller, or the only one (cgroup v2).
    pub cgroup: Option<String>,
}

/// Every micro-VM below this process.
#[must_use]
pub fn micro_vms() -> Vec<MicroVm> {
    leaks::descendants()
        .into_iter()
        .filter_map(|process| {
            let descriptors = fs::read_dir(format!("/proc/{}/fd", process.pid)).ok()?;
            let targets: Vec<_> = descriptors
                .filter_map(|entry| {
                    fs::read_link(entry.ok()?.path()).ok()?.into_os_string().into_string().ok()
                })
                .collect();
            if !targets.iter().any(|target| target == "anon_inode:kvm-vm") {
                return None;
            }
            let vcpus =
                targets.iter().filter(|target| target.starts_with("anon_inode:kvm-vcpu")).count();
            let cgroup = cgroup(process.pid);
            let program = fs::read_link(format!("/proc/{}/exe", process.pid)).ok()?;
            let program = program.file_name()?.to_string_lossy().into_owned();
            Some(MicroVm { pid: process.pid, program, vcpus, cgroup })
        })
        .collect()
}

/// cgroups(7), /proc/PID/cgroup: "number:controllers:path" a line, no controllers for version 2.
fn cgroup(pid: i32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = |wanted: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        lines.find(|(controllers, _)| *controllers == wanted).map(|(_, path)| path.to_owned())
    };
    path("memory").or_else(|| path(""))
}
