// Thread-local variables of a shared library, found once.
//
// The compiler takes the address of a thread-local for a constant, and asks for it anew at every use; in a library that
// is loaded at run time that is a call of some nanoseconds each.
//
// Thread rule: the reference is the calling thread's, and must not outlive it.
#pragma once

namespace spanbox {

template <typename T>
[[gnu::always_inline]] inline T& FoundOnce(T& thread_local_variable) noexcept {
  T* found = &thread_local_variable;
  asm("" : "+r"(found));  // from here on it is a value like any other
  return *found;
}

}  // namespace spanbox
