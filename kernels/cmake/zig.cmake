# Toolchain: zig's clang from the Python package `ziglang`, which brings musl and libc++ for every target.
#
# zig is taken from -DZIG=, the environment variable ZIG, the site-packages that this cmake came from, or the Python on PATH.

set(CMAKE_SYSTEM_NAME Linux)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES ZIG ZIG_TARGET CMAKE_SYSTEM_PROCESSOR)

if(NOT ZIG AND DEFINED ENV{ZIG})
  set(ZIG "$ENV{ZIG}")
endif()
if(NOT ZIG)
  # pip puts cmake at site-packages/cmake/data/bin/cmake.
  file(GLOB ZIG "${CMAKE_ROOT}/../../../../ziglang/zig")
endif()
if(NOT ZIG)
  execute_process(
    COMMAND python3 -c "import pathlib, ziglang; print(pathlib.Path(ziglang.__file__).parent / 'zig')"
    OUTPUT_VARIABLE ZIG OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
if(NOT EXISTS "${ZIG}")
  message(FATAL_ERROR "zig not found: run `pip install ziglang` in the environment of this cmake, or name it with -DZIG=/path/to/zig")
endif()
get_filename_component(ZIG "${ZIG}" REALPATH)
set(ZIG "${ZIG}" CACHE FILEPATH "zig executable")
set(ZIG_TARGET "x86_64-linux-musl" CACHE STRING "zig target: architecture, system, C library")

set(CMAKE_CXX_COMPILER "${ZIG}" c++)
set(CMAKE_CXX_COMPILER_TARGET "${ZIG_TARGET}")
# zig's archiver is a subcommand, which CMAKE_AR cannot hold; without these lines a machine would need binutils.
set(CMAKE_CXX_ARCHIVE_CREATE "\"${ZIG}\" ar qc <TARGET> <LINK_FLAGS> <OBJECTS>")
set(CMAKE_CXX_ARCHIVE_APPEND "\"${ZIG}\" ar q <TARGET> <LINK_FLAGS> <OBJECTS>")
set(CMAKE_CXX_ARCHIVE_FINISH "\"${ZIG}\" ranlib <TARGET>")
