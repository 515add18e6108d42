# Sets WHIMBREL_COMMIT to the commit that is being built, or to nothing where nobody knows it:
#
#   1. the environment variable WHIMBREL_COMMIT, for builders that hold no repository, such as a container's;
#   2. the repository that this tree is a checkout of, with "-dirty" after it when tracked files were changed;
#   3. commit.txt, which a source distribution brings along.
set(WHIMBREL_COMMIT "$ENV{WHIMBREL_COMMIT}")
get_filename_component(whimbrel_tree "${CMAKE_CURRENT_LIST_DIR}/.." ABSOLUTE)

# Only a repository whose root is this tree: an unpacked archive may lie inside somebody else's.
if(WHIMBREL_COMMIT STREQUAL "" AND EXISTS "${whimbrel_tree}/.git")
  find_program(GIT_PROGRAM git)
  if(GIT_PROGRAM)
    execute_process(
      COMMAND "${GIT_PROGRAM}" describe --always --dirty --abbrev=12 --exclude "*"
      WORKING_DIRECTORY "${whimbrel_tree}"
      OUTPUT_VARIABLE WHIMBREL_COMMIT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET
    )
  endif()
elseif(WHIMBREL_COMMIT STREQUAL "" AND EXISTS "${CMAKE_CURRENT_LIST_DIR}/commit.txt")
  file(STRINGS "${CMAKE_CURRENT_LIST_DIR}/commit.txt" WHIMBREL_COMMIT LIMIT_COUNT 1)
endif()
message(STATUS "commit: ${WHIMBREL_COMMIT}")
