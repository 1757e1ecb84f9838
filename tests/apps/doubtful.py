"""Takes one argument; its name does not show an interface."""


def application(request):
    raise AssertionError(request)
