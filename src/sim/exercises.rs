//! Tasks for a course, each of some 30 lines, with a beginning that compiles and an end that a test
//! knows.
