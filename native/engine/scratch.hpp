// Scratch memory of a thread: grown when a larger network comes, kept between calls, freed when the thread ends.
#pragma once

#include <cstddef>

namespace prunus {

// At least `floats` floats, 64-byte aligned; null where there is no memory. Valid until this thread's next call.
float* thread_scratch(size_t floats) noexcept;

}  // namespace prunus
