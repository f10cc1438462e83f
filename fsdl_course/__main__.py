"""`python -m fsdl_course` is the command `fsdl-course`."""
import sys

from fsdl_course.cli import main

sys.exit(main())
