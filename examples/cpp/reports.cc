// A report that takes long, made by one of many threads and processes and read by the others.
//
// The handles of the C interface become C++ values by `std::unique_ptr` and the function that
// gives them up: that is all that a wrapper would have to do.
//
//   c++ -std=c++17 reports.cc $(pkg-config --cflags --libs cache_shm) -pthread -o reports && ./reports
#include <cache_shm.h>

#include <atomic>
#include <future>
#include <iostream>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

template <auto give_up> struct GiveUp {
    template <class Object> void operator()(Object *object) const { give_up(object); }
};
using Cache = std::unique_ptr<cshm_cache, GiveUp<cshm_close>>;
using View = std::unique_ptr<cshm_view, GiveUp<cshm_view_release>>;
using Guard = std::unique_ptr<cshm_guard, GiveUp<cshm_unlock>>;

// Outcomes come back; errors are thrown.
int32_t check(int32_t result) {
    if (result > CSHM_NOT_FOUND) throw std::runtime_error(cshm_last_error());
    return result;
}

Cache open(const char *name, uint64_t size_bytes, uint32_t flags) {
    cshm_cache *cache = nullptr;
    check(cshm_open(name, size_bytes, flags, &cache));
    return Cache(cache);
}

std::optional<std::string> get(const Cache &cache, std::string_view key) {
    cshm_view *lent = nullptr;
    if (check(cshm_get_view(cache.get(), key.data(), key.size(), &lent)) != CSHM_OK) return std::nullopt;
    View view(lent);
    return std::string(static_cast<const char *>(cshm_view_data(lent)), cshm_view_bytes(lent));
}

// The value of `key`; whoever comes first when it is missing makes it, and the others wait.
template <class Make>
std::string get_or_make(const Cache &cache, std::string_view key, uint64_t ttl_ms, Make make) {
    if (auto value = get(cache, key)) return *value;
    cshm_guard *held = nullptr;
    // Held for a minute at most, and no longer than this process lives.
    if (check(cshm_lock(cache.get(), key.data(), key.size(), 60'000, 10'000, &held)) != CSHM_OK) return make();
    Guard guard(held);
    if (auto value = get(cache, key)) return *value;
    std::string value = make();
    check(cshm_set(cache.get(), key.data(), key.size(), value.data(), value.size(), ttl_ms));
    return value;
}

int main() {
    try {
        Cache cache = open("example-reports", 16 << 20, CSHM_OPEN_EPHEMERAL);
        std::atomic<int> made{0};
        std::vector<std::future<std::string>> readers;
        for (int number = 0; number < 8; number++) {
            readers.push_back(std::async(std::launch::async, [&] {
                return get_or_make(cache, "report:2026-11", 3'600'000, [&] {
                    made++;
                    return std::string("everything is fine");
                });
            }));
        }
        int good = 0;
        // What a thread throws comes out of here.
        for (auto &reader : readers) good += reader.get() == "everything is fine";
        std::cout << "made " << made << " time, read " << good << " times\n";
    } catch (const std::exception &error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
}
