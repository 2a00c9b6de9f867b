// One call's documents, split between threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <new>
#include <system_error>
#include <thread>

namespace prunus {

// Call run(first document, number of documents) in up to n_threads threads, with all of the n documents between them,
// and return the flags that the calls returned, joined. Each but the last gets whole blocks, so that every document
// stands in the block it would stand in with one thread.
template <class Run>
int split(size_t n, size_t block, unsigned n_threads, const Run& run) noexcept {
    const size_t blocks = (n + block - 1) / block, parts = std::min<size_t>(n_threads, blocks);
    if (n == 0) return 0;
    if (parts <= 1) return run(size_t{0}, n);
    std::atomic<int> flags{0};
    const auto part = [&](size_t number) noexcept {
        const size_t begin = std::min(n, blocks * number / parts * block),
                     end = std::min(n, blocks * (number + 1) / parts * block);
        flags |= run(begin, end - begin);
    };
    std::unique_ptr<std::thread[]> threads(new (std::nothrow) std::thread[parts]);
    size_t started = 1;  // this thread runs part 0
    if (threads) {
        try {
            for (; started < parts; ++started) threads[started] = std::thread(part, started);
        } catch (const std::exception&) {  // no more threads to be had: the rest is run here
        }
    }
    part(0);
    for (size_t number = started; number < parts; ++number) part(number);
    for (size_t number = 1; number < started; ++number) threads[number].join();
    return flags;
}

}  // namespace prunus
