# Lets CMake use ROS 2 from pip wheels: include folders that exist only on the machine the wheels were built on are
# dropped, and those inside a virtual environment that lies in the source folder are kept out of the exported targets.
# Given to CMake as CMAKE_PROJECT_INCLUDE by tools/colcon_build.sh; a ROS 2 installation does not need it.

function(repair_include_folders)
  get_property(_imported DIRECTORY "${CMAKE_SOURCE_DIR}" PROPERTY IMPORTED_TARGETS)
  get_property(_own DIRECTORY "${CMAKE_SOURCE_DIR}" PROPERTY BUILDSYSTEM_TARGETS)
  foreach(_target IN LISTS _imported _own)
    get_target_property(_folders ${_target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT _folders)
      continue()
    endif()
    set(_kept "")
    foreach(_folder IN LISTS _folders)
      if(_folder MATCHES "\\$<")
        list(APPEND _kept "${_folder}")
      elseif(EXISTS "${_folder}" AND _target IN_LIST _own)
        list(APPEND _kept "$<BUILD_INTERFACE:${_folder}>")
      elseif(EXISTS "${_folder}")
        list(APPEND _kept "${_folder}")
      endif()
    endforeach()
    set_target_properties(${_target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${_kept}")
  endforeach()
endfunction()

# Deferred to the end of CMakeLists.txt: only then are all packages found, and folders are checked after that.
cmake_language(DEFER DIRECTORY "${CMAKE_SOURCE_DIR}" CALL repair_include_folders)
