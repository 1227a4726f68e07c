# How cmake compiles libopus for wasm32-unknown-unknown: by clang, with the headers of libc/ and no C library.
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR wasm32)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_C_COMPILER $ENV{EVENKEEL_LLVM}/clang)
set(CMAKE_C_COMPILER_TARGET wasm32-unknown-unknown)
set(CMAKE_AR $ENV{EVENKEEL_LLVM}/llvm-ar)
set(CMAKE_RANLIB $ENV{EVENKEEL_LLVM}/llvm-ranlib)
