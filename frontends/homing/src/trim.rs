//! The one call that makes the C library's allocator give free pages back to the system (docs/decisions/0011).
#![cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "a function of the C library is declared in an `unsafe extern` block only")
)]

#[cfg(all(target_os = "linux", target_env = "gnu"))]
use core::ffi::c_int;

// Proof. malloc_trim(3) is `int malloc_trim(size_t pad)` in every glibc since 2.0, which this is compiled for only, and
// `usize` is `size_t`. It takes no pointer and gives none, and has no precondition: any thread may call it at any time
// with any number, beside others that allocate and free (MT-Safe), whatever the program's global allocator is. What it
// gives back is free memory, which nobody may refer to. So a call is safe, and is declared so.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
unsafe extern "C" {
    safe fn malloc_trim(pad: usize) -> c_int;
}

/// Gives free pages back to the system. Takes each of the allocator's arenas in turn, and threads that need memory of one
/// meanwhile wait. With other C libraries it does nothing.
pub(crate) fn trim() {
    // What it returns is whether there was anything to give.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    let _ = malloc_trim(0);
}
