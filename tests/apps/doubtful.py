"""Takes one argument, whose name does not show an interface."""


def application(request):
    raise AssertionError(request)
