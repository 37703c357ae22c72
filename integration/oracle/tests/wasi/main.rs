//! What the library OS does, call by call, and beside Wasmtime's WASI.

#[cfg(test)]
mod interpreter;
#[cfg(test)]
mod p1;
#[cfg(test)]
mod p2;
#[cfg(test)]
mod prepared;
#[cfg(test)]
mod programs;
#[cfg(test)]
mod sequences;
#[cfg(test)]
mod session;
#[cfg(test)]
mod world;
