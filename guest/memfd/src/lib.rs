//! Empty: the guest has no operating system to ask for a memfd.
#![no_std]
