/* Counts the calls of LibTorch that a program makes, by name, those that calls make among each other too. A call takes the host
 * microseconds on any device, so their number is what keeps a GPU waiting.
 *
 *   T=FOLDER_OF_LIBTORCH
 *   c++ -std=c++17 -O2 -shared -fPIC -I$T/include -I$T/include/torch/csrc/api/include -o libcalls.so \
 *       bench/gpu/null/libtorch_calls.cpp -L$T/lib -ltorch_cpu -lc10
 *   LD_LIBRARY_PATH=$T/lib LD_PRELOAD=$PWD/libcalls.so LIBTORCH_CALLS=calls.txt PROGRAM ...
 *
 * Of two runs of `gpu train` of which one does `--steps 2` more, the difference is that of 12 steps.
 */
#include <ATen/record_function.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>

namespace {

struct Calls {
    std::mutex lock;
    std::map<std::string, long> by_name;
};

Calls &calls() {
    static Calls *all = new Calls; // never destroyed: threads may call to the end
    return *all;
}

std::unique_ptr<at::ObserverContext> called(const at::RecordFunction &function) {
    std::lock_guard<std::mutex> guard(calls().lock);
    calls().by_name[function.name()]++;
    return nullptr;
}

__attribute__((constructor)) void begin() {
    at::addGlobalCallback(at::RecordFunctionCallback(called).scopes({at::RecordScope::FUNCTION}));
}

__attribute__((destructor)) void end() {
    const char *path = std::getenv("LIBTORCH_CALLS");
    FILE *out = path ? std::fopen(path, "w") : nullptr;
    if (!out) return;
    for (const auto &[name, count] : calls().by_name) std::fprintf(out, "%ld\t%s\n", count, name.c_str());
    std::fclose(out);
}

} // namespace
